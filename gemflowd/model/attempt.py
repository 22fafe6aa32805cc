"""An attempt: what is handed to an executor, what comes back, what is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple


class Outcome(IntEnum):
    """How an attempt ended. The numbers are stored and spoken between daemon and worker: never renumber."""

    DONE = 1  # the handler returned
    ERROR = 2  # the handler raised
    PERMANENT = 3  # the handler said that trying again is useless
    RATE_LIMITED = 4  # quota: costs no try
    TIMEOUT = 5
    MEMORY = 6
    CRASH = 7  # the worker died while this task alone ran in it
    SUSPECT = 8  # the worker died while several ran
    LOST = 9  # drain, recycle, nursery, daemon or node gone
    CANCELLED = 10
    AGAIN = 11  # the handler wants another attempt, in another way
    PARKED = 12  # the handler wants another attempt, later

    @property
    def word(self) -> str:
        return self.name.lower()


class Kind(IntEnum):
    """The kind of worker that a handler needs. The numbers are stored."""

    BLOCKING = 1
    COROUTINE = 2

    @property
    def word(self) -> str:
        return self.name.lower()


#: Seconds that a very short task may run before what was handed over behind it is taken back.
TAKE_BACK_AFTER: Final = 0.03


@dataclass(slots=True)
class Start:
    """One attempt handed to an executor. `body` and `inputs` are MessagePack, passed on as they are stored.

    Nothing of it is changed; `frozen` would make each five times as dear.
    """

    task: int
    token: int
    attempt: int  # ordinal, from 1, lost ones included
    flow: int
    id: int | str | None  # as it was given
    type: str
    slot: str
    body: bytes
    inputs: bytes | None  # {id or number: result} of the dependencies
    timeout: float  # seconds
    memory_mb: int | None = None  # its own cap; None: that of its worker
    devices: tuple[str, ...] = ()  # GPUs that are its alone (or its share of one), as CUDA_VISIBLE_DEVICES names them
    note: tuple[int, bytes] | None = (
        None  # after `again` and `parked`: how often `again` since it was submitted or retried, and what was noted
    )
    patience: float = TAKE_BACK_AFTER  # seconds that it may run before what is behind it is taken back


@dataclass(slots=True)
class Ended:
    """What an executor reports of an attempt.

    `payload` is MessagePack: the result for DONE, else `{class, code, message, traceback?, …}`.
    """

    task: int
    token: int
    outcome: Outcome
    payload: bytes
    seconds: float = 0.0
    retry_after: float | None = None  # seconds, with RATE_LIMITED and PARKED
    usage: bytes | None = None  # MessagePack, what it cost
    peak_kb: int | None = None
    cause: str | None = None  # of a worker's death


class AttemptRecord(NamedTuple):
    """What is kept of an attempt for `show`, in the order of its table's columns."""

    task: int
    number: int
    slot: str
    started: float
    finished: float
    outcome: Outcome
    seconds: float
    error: bytes | None = None  # MessagePack
    usage: bytes | None = None
    peak_kb: int | None = None


@dataclass(slots=True)
class HandlerInfo:
    """A task type as the nursery's catalogue describes it."""

    type: str
    kind: Kind
    schema: dict[str, object]
    doc: str = ""
    bucket: str | None = None  # limit bucket, a format string over the data: "gemini:{model}"
    retries: int | None = None
    timeout: float | None = None
    module: str = ""
    retry_on: dict[str, int] = field(default_factory=dict)  # tries after the first, by class or code of the error
    options: dict[str, object] = field(default_factory=dict)
    package: str = ""  # the installed package that offers it, with its version
    converts: bool = False  # data is converted to a model, and so checked again, in the worker
