"""The few verbs that a store has. The engine knows only these, and those of its small tables (`tables`); `sqlite` implements them.

One suite (`tests/conformance`) runs over every implementation. A store is used by one thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from gemflowd.core.turn import Chunk, Cursor, Turn
from gemflowd.model.attempt import HandlerInfo
from gemflowd.model.budget import Budget, Calls, ModelUse, Reservation
from gemflowd.model.event import EventBatch
from gemflowd.model.lane import Bucket, Lane, Queue
from gemflowd.model.states import On, State
from gemflowd.model.task import Flow, Task
from gemflowd.store.tables import (
    BatchTable,
    BudgetTable,
    CacheTable,
    KeyTable,
    LimitTable,
    LinkTable,
    PathTable,
    ScheduleTable,
    Upkeep,
    ValueTable,
)

#: As in `core.lanes`: (-urgency, tag, number).
Key = tuple[int, float, int]


@dataclass(slots=True)
class Snapshot:
    """What the engine keeps in memory: small, whatever is in the queue."""

    lanes: dict[int, Lane]
    buckets: dict[str, Bucket]
    cursors: list[Cursor]
    running: list[Task]
    next_task: int
    next_flow: int
    next_event: int
    ordinals: dict[str, int]  # per topic: events so far
    meta: dict[str, float]  # virtual_time, queued_bytes, steady and wall of one moment, …
    queues: dict[str, Queue]
    settings: dict[str, Any]
    catalogue: list[HandlerInfo]
    next_run: float | None  # of any schedule
    stops: dict[int, tuple[int, int]]  # flows with `max_errors`: that, and the failures at which it is held
    awaited: dict[int, str]  # flows whose end a run waits for, and the schedule of that run
    accounts: StoredAccounts
    carriers: set[int] = field(default_factory=set)  # tasks that carry a batch which is not over


class StoredAccounts(NamedTuple):
    """What of budgets is always in memory."""

    wide: list[Budget]  # those that are neither a flow's nor a task's
    has_flows: bool
    has_tasks: bool
    reservations: dict[int, Reservation]
    models: dict[Calls, ModelUse]
    next_number: int


class Edge(NamedTuple):
    """A dependency seen from its parent, not settled yet."""

    parent: int
    child: int
    on: On


class ParentEdge(NamedTuple):
    """A dependency seen from its child."""

    child: int
    parent: int
    parent_flow: int
    parent_state: State
    on: On


class ParentState(NamedTuple):
    """A dependency of one task. `flow` and `state` are None where what it depends on is gone."""

    parent: int
    on: On
    settled: bool
    flow: int | None
    state: State | None


class Store(Protocol):
    @property
    def batches(self) -> BatchTable: ...
    @property
    def budgets(self) -> BudgetTable: ...
    @property
    def keys(self) -> KeyTable: ...
    @property
    def links(self) -> LinkTable: ...
    @property
    def paths(self) -> PathTable: ...
    @property
    def values(self) -> ValueTable: ...
    @property
    def schedules(self) -> ScheduleTable: ...
    @property
    def cache(self) -> CacheTable: ...
    @property
    def limits(self) -> LimitTable: ...

    @property
    def upkeep(self) -> Upkeep: ...

    def load(self) -> Snapshot: ...

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...

    def tasks(self, numbers: Sequence[int]) -> list[Task]: ...
    def tasks_by_id(self, flow: int, ids: Sequence[str]) -> dict[str, Task]: ...
    def bodies(self, numbers: Sequence[int]) -> dict[int, bytes]: ...
    def last_again(self, task: int) -> bytes | None:
        """The error of its last attempt that ended as `again`, MessagePack."""
        ...

    def inputs(self, numbers: Sequence[int]) -> dict[int, list[tuple[int, str | None, bytes]]]:
        """Results of the dependencies: task -> (number, id, result) of each that has one."""
        ...

    def inputs_page(self, task: int, after: int, limit: int) -> list[tuple[int, str | None, bytes | None]]:
        """The same of one task, some dependencies at a time, by number; None where one has no result."""
        ...

    def input_sizes(self, numbers: Sequence[int]) -> dict[int, int]:
        """Bytes of those results, for tasks that have any."""
        ...

    def flows(self, numbers: Sequence[int]) -> list[Flow]: ...
    def flow_of(self, submission: str) -> Flow | None: ...
    def chunk(self, flow: int, offset: int, count: int, complete: bool) -> Chunk | None: ...
    def ready(self, lane: int, limit: int) -> list[Key]: ...
    def due(self, now: float, limit: int, *, wall: bool) -> list[Task]:
        """Scheduled tasks whose time has come, by one of the two clocks."""
        ...

    def expired(self, now: float, limit: int, *, wall: bool) -> list[Task]: ...
    def next_times(self, *, wall: bool) -> float | None:
        """The next due time or expiry by one of the two clocks."""
        ...

    def unhandled(self, types: Sequence[str], limit: int) -> list[Task]:
        """Tasks that are held for want of a handler of one of these types."""
        ...

    def judging(self, limit: int) -> list[Task]:
        """Tasks whose `when` is to be evaluated."""
        ...

    def placed_in(self, after: int, last: int) -> list[Task]:
        """Tasks of a range of numbers that have a place in the order, also those that are elsewhere at the moment."""
        ...

    def oldest_open_flow(self) -> tuple[int, float] | None:
        """The open flow whose last chunk came longest ago: number, time."""
        ...

    def open_edges(self, parent: int, after: int, limit: int) -> list[Edge]: ...
    def parents(self, children: Sequence[int]) -> list[ParentEdge]: ...
    def count_parents(self, child: int) -> int:
        """How many dependencies of a task are stored."""
        ...

    def parents_page(self, child: int, after: int, limit: int) -> list[ParentState]:
        """Some of them, by number."""
        ...

    def children(self, parents: Sequence[int]) -> list[int]: ...
    def flow_tasks(self, flow: int, after: int, limit: int) -> list[Task]: ...

    def write(self, turn: Turn) -> None:
        """What the turn has decided about rows so far, in few statements."""
        ...

    def conclude(self, turn: Turn, events: EventBatch | None, meta: Mapping[str, float]) -> None:
        """What is written once a turn: cursors, events, and figures of the engine that outlive it."""
        ...

    def put_queue(self, queue: Queue) -> None:
        """Store it, or forget it where nothing about it is special."""
        ...

    def shrink(self, tasks: Sequence[int], limit: int) -> int:
        """Remove log lines and dependencies of tasks that are to be deleted, at most so many rows. Returns how many: fewer, when
        there are no more."""
        ...

    def edges_of(self, parents: Sequence[int]) -> list[Edge]:
        """The dependencies of several parents that are not settled yet; for those that have few."""
        ...

    def deleted_flow(self) -> int | None:
        """A flow that is hidden and still to be removed."""
        ...

    def result_sizes(self, tasks: Sequence[int]) -> dict[int, int]: ...

    def note_start(self) -> bool:
        """Mark that a daemon is running, and give the database a number of its own if it has none. Returns whether the daemon before
        ended without `note_end`."""
        ...

    def note_end(self) -> None: ...
    def close(self) -> None: ...
