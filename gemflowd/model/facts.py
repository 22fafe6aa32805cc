"""What the engine is told. A fact is put into its inbox and decided in one of its next turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gemflowd.model.attempt import Ended, HandlerInfo, Kind
from gemflowd.model.budget import Action, NewBudget, Scope
from gemflowd.model.cache import Mode
from gemflowd.model.errors import Refused
from gemflowd.model.lane import LaneKey
from gemflowd.model.refs import NamedTask, Ref
from gemflowd.model.rules import Rules
from gemflowd.model.states import On

#: Called on the loop's thread, after the commit, with the reply's body or the refusal.
Reply = Callable[[dict[str, Any] | Refused], None]


@dataclass(slots=True, frozen=True)
class NewDependency:
    """What a new task waits for: an index into the same chunk, an id of an earlier chunk, or a task elsewhere."""

    target: int | str | NamedTask | TaskNumber
    on: On
    path: str


#: Dependencies that one submission may have to be stored as such at once. Of more the submitter looks up all names, as task numbers or
#: places in the same submission, and the engine takes them apart turn by turn.
MOST_EDGES: Final = 2_000


@dataclass(slots=True, frozen=True)
class TaskNumber:
    number: int


@dataclass(slots=True, frozen=True)
class UniqueKey:
    key: str
    ttl: float | None  # seconds; None: until the task has ended
    conflict: str  # return, reject, replace


@dataclass(slots=True, frozen=True)
class Grow:
    """A running task adds to its own flow."""

    task: int
    token: int
    step: str | None
    awaits: tuple[int, ...] = ()  # those of the new tasks whose end its next attempt waits for


@dataclass(slots=True)
class NewTask:
    """A validated task of a submission. Nothing of it is changed; it is not `frozen` because that makes each five times as dear."""

    id: str | None
    type: str
    priority: int
    lane: LaneKey  # gate 0; the engine puts the flow's gate in
    timeout: float | None
    retries: int | None
    backoff: float | None
    body: bytes
    deps: tuple[NewDependency, ...] = ()
    delay: float | None = None  # seconds from the moment of its storing
    run_at: float | None = None  # a date
    expires_in: float | None = None
    expires: float | None = None
    rules: str | None = None
    when: str | None = None
    key: UniqueKey | None = None
    estimate: float | None = None  # seconds
    memory_mb: int | None = None
    integer_id: bool = False  # that is how `id` was given
    budget: NewBudget | None = None


@dataclass(slots=True)
class Submit:
    reply: Reply
    submission: str
    name: str | None
    metadata: bytes | None
    weight: float
    offset: int
    complete: bool
    digest: bytes
    tasks: list[NewTask]
    stream: bool = False
    critical_path: bool = False
    grow: Grow | None = None
    repeats: int | None = (
        None  # it has so many tasks, which need not be read again: it is taken as a repeat, or not at all
    )
    budget: NewBudget | None = None  # of the flow; of its first chunk
    task_budgets: bool = False  # whether any of the tasks has one


@dataclass(slots=True)
class Discard:
    reply: Reply
    submission: str


@dataclass(slots=True)
class Cancel:
    reply: Reply
    refs: list[Ref]


@dataclass(slots=True)
class Retry:
    reply: Reply
    refs: list[Ref]
    downstream: bool


@dataclass(slots=True)
class Hold:
    reply: Reply
    refs: list[Ref]


@dataclass(slots=True)
class Release:
    reply: Reply
    refs: list[Ref]


@dataclass(slots=True)
class Edit:
    reply: Reply
    refs: list[Ref]
    priority: int


@dataclass(slots=True)
class Delete:
    reply: Reply
    refs: list[Ref]


@dataclass(slots=True)
class SetQueue:
    """Pause, resume or limit a queue."""

    reply: Reply
    queue: str
    change: dict[str, Any]  # paused: bool, most: int | None


@dataclass(slots=True)
class ChangeBudget:
    """Set a budget, or raise one by so much. What is None stays as it is."""

    reply: Reply
    scope: Scope
    ref: Ref | None  # of a task or flow
    queue: str
    money: int | None
    tokens: int | None
    action: Action | None
    by: bool  # raise


@dataclass(slots=True)
class RemoveBudget:
    reply: Reply
    scope: Scope
    ref: Ref | None
    queue: str


@dataclass(slots=True, frozen=True)
class Speaker:
    """A running attempt that asks for something, by its live token."""

    task: int
    token: int


@dataclass(slots=True)
class SetValue:
    """Put a value into the shared memory."""

    reply: Reply
    namespace: str
    key: str
    value: bytes  # MessagePack
    ttl: float | None = None  # seconds
    version: int | None = None  # that it must have now; 0: none, None: whatever it has
    speaker: Speaker | None = None  # None: a client


@dataclass(slots=True)
class DeleteValue:
    reply: Reply
    namespace: str
    key: str
    version: int | None = None
    speaker: Speaker | None = None


@dataclass(slots=True)
class SleepLimit:
    """Put the limit to sleep that the speaking attempt falls under."""

    reply: Reply
    seconds: float
    speaker: Speaker


@dataclass(slots=True)
class BeginCall:
    """A running attempt is about to make a call that the cache may have, or that another attempt is making.

    The reply, perhaps much later: `{entry}`, the number of a stored answer; `{value}`, that of somebody else, MessagePack;
    `{lead: True}`, when it is to make the call; `{wait}`, seconds, when whoever has made it has met a quota.
    """

    reply: Reply
    key: bytes  # a hash of the request
    model: str
    mode: Mode
    speaker: Speaker


@dataclass(slots=True)
class LeaveCall:
    """A running attempt has made its call, and the answer is not for others."""

    reply: Reply
    speaker: Speaker


@dataclass(slots=True)
class ClearCache:
    reply: Reply


@dataclass(slots=True)
class AddSchedule:
    """`next_run` of the reply says when it runs first."""

    reply: Reply
    name: str
    cron: str
    zone: str
    misfire: str
    misfire_limit: int
    overlap: str
    paused: bool
    replace: bool
    task: NewTask
    shown: bytes  # the task as it was given, MessagePack


@dataclass(slots=True)
class PauseSchedule:
    """Pause or resume."""

    reply: Reply
    name: str
    paused: bool


@dataclass(slots=True)
class RemoveSchedule:
    reply: Reply
    name: str


@dataclass(slots=True)
class ClockSet:
    """The wall clock was set: dates may have come or gone."""


@dataclass(slots=True)
class Starts:
    """Start nothing more until told otherwise, or start things again. Not kept over a restart."""

    reply: Reply
    on: bool


@dataclass(slots=True)
class Configure:
    """Settings changed at run time, stored with the turn; None resets. `rules` are those that follow from them."""

    reply: Reply
    changes: dict[str, Any]
    rules: Rules


@dataclass(slots=True)
class AttemptsEnded:
    """Outcomes, as an executor reports them."""

    ended: list[Ended]


@dataclass(slots=True)
class TakenBack:
    """Attempts that were handed over and had not started: (task, token)."""

    attempts: list[tuple[int, int]]


@dataclass(slots=True)
class LogLines:
    """(task, attempt, at, stream, text)"""

    lines: list[tuple[int, int, float, str, str]]


@dataclass(slots=True)
class SlotUp:
    """A place where attempts can run; said again when it has another size."""

    name: str
    kind: Kind
    size: int
    pid: int


@dataclass(slots=True)
class SlotStopping:
    """The slot finishes what it has and takes nothing new."""

    name: str


@dataclass(slots=True)
class SlotDown:
    name: str
    pid: int
    cause: str | None = None


@dataclass(slots=True)
class MemoryTight:
    """Whether all workers together have more memory than they may: no blocking task starts while they do."""

    tight: bool


@dataclass(slots=True)
class Devices:
    """The GPUs that attempts can be given, as CUDA_VISIBLE_DEVICES names them; empty: none are known, amounts alone count.

    Said once, before the first slot. What a recovered attempt had is not among what is given: it runs no more.
    """

    ids: tuple[str, ...]


@dataclass(slots=True)
class Catalogue:
    """The task types of a nursery."""

    handlers: list[HandlerInfo] = field(default_factory=list)


@dataclass(slots=True)
class Drain:
    """Start nothing more."""


@dataclass(slots=True)
class Ping:
    """Answered after a turn that really happened: what feeds the watchdog."""

    reply: Reply


@dataclass(slots=True)
class Stop:
    """Leave the queue as it is and end the engine's thread."""


Fact = (
    Submit | Discard | Cancel | Retry | Hold | Release | Edit | Delete | SetQueue | ClockSet | Configure
    | ChangeBudget | RemoveBudget | SetValue | DeleteValue | SleepLimit | BeginCall | LeaveCall | ClearCache
    | AddSchedule | PauseSchedule | RemoveSchedule
    | AttemptsEnded | TakenBack | LogLines
    | SlotUp | SlotStopping | SlotDown | MemoryTight | Devices | Catalogue | Starts | Drain | Ping | Stop
)  # fmt: skip
