"""Batches of model calls that are answered together, later: what is known of one, and what attempts may want of it.

A batch has the number of its task, of the type `gemini.batch`, whose attempts send it, look at it and bring its answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

#: The type of the tasks that carry batches, and the queue that they are in.
TYPE: Final = "gemini.batch"
#: What the limit of a question that is in a batch begins with, before the model's name: nothing is asked under it.
BUCKET: Final = "gemini.batch:"
#: Bytes of all questions of a batch: Google takes 20 MB in one request.
MOST_BYTES: Final = 12 * 1024 * 1024
#: Why a batch has come to its end, where that is no failure.
DEADLINE: Final = "deadline"
EXPIRED: Final = "batch_expired"
#: As `DEADLINE`, and nothing is known of it: it may still go on, and have to be paid for.
GIVEN_UP: Final = "batch_given_up"


class BatchState(IntEnum):
    """The numbers are stored: never renumber, only add."""

    OPEN = 1  # takes questions
    FULL = 2
    SENDING = 3  # Google may have it, and its name there is not known
    SENT = 4
    OVER = 5  # every question that has no answer now gets none of it

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(slots=True)
class Batch:
    number: int  # of its task
    uuid: str  # by which Google knows it, too: what was sent is found again
    model: str
    until: int  # when its questions have to be asked otherwise, seconds since the epoch; 0: never
    state: BatchState = BatchState.OPEN
    name: str | None = None  # Google's
    items: int = 0
    bytes: int = 0
    reason: str | None = None  # why it is over


@dataclass(slots=True, frozen=True)
class Join:
    """Put a question into a batch. Said again it changes nothing. Reply: `{}`."""

    model: str
    request: bytes  # JSON
    until: int


@dataclass(slots=True, frozen=True)
class Take:
    """What became of a question. Reply: `{ready: True}`, `{over: why}`, `{waits: True}`, or `{}`: it is in no batch.

    Attributes:
        late: its time is over: where there is no answer it waits no more, and is told that its batch is over.
    """

    late: bool = False


@dataclass(slots=True, frozen=True)
class Begin:
    """An attempt that carries a batch begins: no more questions come. Reply: the batch; `tried`: whether one before may have sent
    it; `waiting`: whether somebody waits for an answer."""


@dataclass(slots=True, frozen=True)
class Name:
    """Google has it. When the reply comes that is durable."""

    name: str


@dataclass(slots=True, frozen=True)
class Answers:
    """Answers have come: (task, JSON)."""

    answers: Sequence[tuple[int, bytes]]


@dataclass(slots=True, frozen=True)
class End:
    """There are no more."""

    reason: str


Wish = Join | Take | Begin | Name | Answers | End
