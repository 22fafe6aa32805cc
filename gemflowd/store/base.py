"""The few verbs that a store has. The engine knows only these; `sqlite` and the in-memory twin `memory` implement them.

One suite (`tests/conformance`) runs over every implementation. A store is used by one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from gemflowd.core.turn import Chunk, Cursor, Turn
from gemflowd.model.attempt import HandlerInfo
from gemflowd.model.event import EventBatch
from gemflowd.model.lane import Bucket, Lane
from gemflowd.model.states import On, State
from gemflowd.model.task import Flow, Task

#: As in `core.lanes`: (-priority, tag, number).
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
    virtual_time: float
    settings: dict[str, Any]
    catalogue: list[HandlerInfo]


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


class Store(Protocol):
    def load(self) -> Snapshot: ...

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...

    def tasks(self, numbers: Sequence[int]) -> list[Task]: ...
    def tasks_by_id(self, flow: int, ids: Sequence[str]) -> dict[str, Task]: ...
    def bodies(self, numbers: Sequence[int]) -> dict[int, bytes]: ...
    def inputs(self, numbers: Sequence[int]) -> dict[int, list[tuple[int, str | None, bytes]]]:
        """Results of the dependencies: task -> (number, id, result) of each that has one."""
        ...

    def flows(self, numbers: Sequence[int]) -> list[Flow]: ...
    def flow_of(self, submission: str) -> Flow | None: ...
    def chunk(self, flow: int, offset: int, count: int, complete: bool) -> Chunk | None: ...
    def ready(self, lane: int, limit: int) -> list[Key]: ...
    def due(self, now: float, limit: int) -> list[Task]: ...
    def next_due(self) -> float | None: ...
    def open_edges(self, parent: int, after: int, limit: int) -> list[Edge]: ...
    def parents(self, children: Sequence[int]) -> list[ParentEdge]: ...
    def children(self, parents: Sequence[int]) -> list[int]: ...
    def flow_tasks(self, flow: int, after: int, limit: int) -> list[Task]: ...

    def write(self, turn: Turn) -> None:
        """What the turn has decided about rows so far, in few statements."""
        ...

    def conclude(self, turn: Turn, events: EventBatch | None, virtual_time: float) -> None:
        """What is written once a turn: cursors, events, the time of fair queueing."""
        ...

    def note_start(self) -> bool:
        """Mark that a daemon is running. Returns whether the one before ended without `note_end`."""
        ...

    def note_end(self) -> None: ...
    def close(self) -> None: ...
