"""A task as the scheduler knows it: the small row that changes. Its payload is stored apart and never loaded to decide."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gemflowd.model.states import On, State

# What `Task.flags` may hold. The numbers are stored, and those of the two clocks are in indexes: never renumber, only add.
DUE_WALL: Final = 1  # `due` is a date: the wall clock tells; else it follows from a duration, and the steady clock does
EXPIRES_WALL: Final = 2  # the same for `expires`
KEYED: Final = 4  # it holds a unique key until it has ended
CONDITIONAL: Final = 8  # it has a `when`
LINKING: Final = 16  # some of its dependencies are not taken apart yet; counted in `waiting` as one
UNMET: Final = 64  # skipped by its `when`
JUDGING: Final = 128  # everything is settled, and its `when` is to be evaluated; in an index: never renumber
JUDGED: Final = 256  # it was found true; only a person's retry asks again
CLAIMING: Final = 32  # it depends on tasks of other flows, which can't be deleted meanwhile
INTEGER_ID: Final = 512  # its id was given as an integer, and is shown as one
BUDGETED: Final = 1024  # it has a budget of its own
NOTED: Final = 4096  # an attempt has ended as `again`, and the next ones get what it noted
#: How often that was, since it was submitted or retried, is counted in the bits above.
AGAIN: Final = 1 << 16


class Hold(IntEnum):
    """Why a task is held. The numbers are stored."""

    NONE = 0
    PERSON = 1
    HANDLER = 2  # its type is not registered (any more)
    BUDGET = 3  # its own budget is used up
    ASKED = 4  # its handler asks a person: only a release of the task itself says yes


class Ordering(IntEnum):
    """Whether a flow is put in order by its critical path (`engine.ordering`). The numbers are stored."""

    NONE = 0  # no, or not any more
    WANTED = 1  # when all of it has arrived
    NOW = 2  # all has arrived; its gate is shut until it is in order


@dataclass(slots=True)
class Task:
    """The hot row of a task. Times are seconds since the epoch (UTC)."""

    number: int
    flow: int
    id: str | None
    type: str
    state: State
    priority: int
    lane: int
    created: float
    # Rules of this task; None: the handler's or the setting's value counts.
    timeout: float | None = None  # seconds for one attempt
    retries: int | None = None  # tries after the first
    backoff: float | None = None  # seconds, base of the exponential
    # What scheduling changes.
    tag: float = 0.0  # start-time fair-queueing tag, 0: not given yet
    due: float | None = None  # when `scheduled` ends
    waiting: int = 0  # dependencies that are not settled; LINKING counts as one
    dependents: int = 0  # tasks that wait for this one
    inputs: int = 0  # dependencies in all
    token: int = 0  # raised at each dispatch; only the outcome of the live token counts
    attempts: int = 0  # attempts on its record
    tries: int = 0  # those that were charged
    losses: int = 0  # unclean ends of the daemon while it ran
    crashes: int = 0  # workers that it killed alone
    cancelled: bool = False  # a person asked for its end while it ran
    started: float | None = None  # of the latest attempt
    finished: float | None = None
    slot: str | None = None  # where the latest attempt runs or ran
    reason: str | None = None  # why it is held, skipped or ready again
    urgency: int = 5  # the priority by which it is ordered: aged, if the setting `ageing` says so
    expires: float | None = None  # skipped if it has not started by then
    hold: int = Hold.NONE
    flags: int = 0
    depth: int = 0  # 0: submitted by a client; 1: added by such a task; …
    size: int = 0  # bytes of its body
    ooms: int = 0  # attempts that were over their memory cap
    rules: str | None = None  # retries by class or code of the error, JSON
    memory_mb: int | None = None  # its own cap; None: that of its worker
    estimate: float | None = None  # seconds that it is expected to run; None: the mean of its type


def shown_id(name: str | None, flags: int) -> int | str | None:
    """A task's id as it was given: 1 and "1" name the same task, and are not the same to a program."""
    return int(name) if name is not None and flags & INTEGER_ID else name


def agains(task: Task) -> int:
    """How many attempts have ended as `again` since it was submitted or retried."""
    return task.flags // AGAIN


def runs_alone(task: Task) -> bool:
    """Whether it has a blocking worker for itself, and nothing is handed over with it: its memory is measured, not a neighbour's."""
    return task.memory_mb is not None or task.ooms > 0


@dataclass(slots=True, frozen=True)
class Dependency:
    """An edge: `child` waits for `parent`."""

    parent: int
    child: int
    on: On
    settled: bool = False  # the child was told how the parent ended


@dataclass(slots=True)
class Flow:
    """One submission. Counts are by state and kept in the same transaction as the tasks."""

    number: int
    submission: str
    name: str | None
    state: int  # FlowState
    created: float
    finished: float | None
    first: int  # number of its first task, 0 while it has none
    received: int  # tasks stored so far
    last_tag: float
    weight: float
    counts: dict[State, int]
    cancelled: bool = False  # by a person: nothing of it starts any more
    touched: float = 0.0  # when its last chunk came, of one that has ended when it did; by the steady clock
    streaming: bool = False  # it runs from its first chunk on
    on_hold: bool = False  # what is added to it is held
    deleted: bool = False  # hidden, and being removed
    ordering: int = Ordering.NONE
    given: float = 0.0  # not stored: the last tag that one of its tasks was given
    metadata: bytes | None = None  # MessagePack; only written, never loaded to decide
