"""The in-memory twin of the embedded store, for tests only: nothing of it survives its process.

It keeps to what `schema.sql` checks, so that a decision that the database would refuse is refused here as well. Rows are
copied on their way in and out, as a database does: a row that is changed and not written has not changed.
Does not cover: what people ask (`store.reader`), speed (lookups scan).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, NamedTuple

import msgpack

from gemflowd.core.turn import Chunk, Cursor, CursorKind, Turn
from gemflowd.model.attempt import AttemptRecord, HandlerInfo, Kind, Outcome
from gemflowd.model.event import EventBatch
from gemflowd.model.lane import Bucket, Lane
from gemflowd.model.states import FlowState, On, State
from gemflowd.model.task import Flow, Task
from gemflowd.store.base import Edge, Key, ParentEdge, Snapshot

#: What of a task and of a flow no turn changes once it is stored.
_TASK_FIXED: Final = ("number", "flow", "id", "type", "created", "timeout", "retries", "backoff", "inputs")
_FLOW_FIXED: Final = ("number", "submission", "name", "created", "weight", "metadata")


class StoredEvents(NamedTuple):
    """The events of one turn as they are stored."""

    first: int
    last: int
    at: float
    events: list[list[Any]]
    ordinals: dict[str, int]  # of every topic, after these events


@dataclass(slots=True)
class Tables:
    """All rows. A stored row is never changed in place, so that copying the containers copies the state."""

    tasks: dict[int, Task] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    flows: dict[int, Flow] = field(default_factory=dict)
    chunks: dict[tuple[int, int, int, bool], Chunk] = field(default_factory=dict)
    lanes: dict[int, Lane] = field(default_factory=dict)
    buckets: dict[str, float] = field(default_factory=dict)
    edges: dict[tuple[int, int], tuple[On, bool]] = field(default_factory=dict)  # (parent, child) -> on, settled
    attempts: dict[tuple[int, int], AttemptRecord] = field(default_factory=dict)
    results: dict[int, bytes] = field(default_factory=dict)
    logs: list[tuple[int, int, float, str, str]] = field(default_factory=list)
    events: list[StoredEvents] = field(default_factory=list)
    counters: dict[tuple[str, State], int] = field(default_factory=dict)
    cursors: dict[tuple[CursorKind, int], int] = field(default_factory=dict)  # -> position
    settings: dict[str, bytes] = field(default_factory=dict)
    catalogue: dict[str, bytes] = field(default_factory=dict)
    meta: dict[str, float] = field(default_factory=dict)

    def copied(self) -> Tables:
        return Tables(*(copy.copy(getattr(self, part.name)) for part in fields(self)))


class MemoryStore:
    """See `store.base.Store`. For tests only.

    Raises:
        AssertionError: where the database would refuse a row.
    """

    def __init__(self, tables: Tables | None = None) -> None:
        self.tables = Tables() if tables is None else tables  # what is stored, for tests to look at
        self._before: Tables | None = None  # what a rollback goes back to; None outside a transaction

    def committed(self) -> MemoryStore:
        """Another store with what is committed in this one: what is left after a crash."""
        return MemoryStore((self._before or self.tables).copied())

    # Reading

    def load(self) -> Snapshot:
        tables = self.tables
        last = tables.events[-1] if tables.events else None
        return Snapshot(
            lanes={number: replace(lane) for number, lane in tables.lanes.items()},
            buckets={name: Bucket(name, until) for name, until in tables.buckets.items()},
            cursors=[Cursor(kind, target, at) for (kind, target), at in sorted(tables.cursors.items())],
            running=[copy.copy(task) for task in tables.tasks.values() if task.state is State.RUNNING],
            next_task=max(int(tables.meta.get("next_task", 1)), max(tables.tasks, default=0) + 1),
            next_flow=max(int(tables.meta.get("next_flow", 1)), max(tables.flows, default=0) + 1),
            next_event=last.last + 1 if last else 1,
            ordinals=dict(last.ordinals) if last else {},
            virtual_time=tables.meta.get("virtual_time", 0.0),
            settings={key: msgpack.unpackb(value) for key, value in tables.settings.items()},
            catalogue=[_handler_from(value) for _, value in sorted(tables.catalogue.items())],
        )

    def tasks(self, numbers: Sequence[int]) -> list[Task]:
        return [copy.copy(self.tables.tasks[number]) for number in sorted(set(numbers) & self.tables.tasks.keys())]

    def tasks_by_id(self, flow: int, ids: Sequence[str]) -> dict[str, Task]:
        wanted = set(ids)
        return {
            task.id: copy.copy(task)
            for task in self.tables.tasks.values()
            if task.flow == flow and task.id is not None and task.id in wanted
        }

    def bodies(self, numbers: Sequence[int]) -> dict[int, bytes]:
        return {number: self.tables.bodies[number] for number in numbers if number in self.tables.bodies}

    def inputs(self, numbers: Sequence[int]) -> dict[int, list[tuple[int, str | None, bytes]]]:
        tables = self.tables
        found: dict[int, list[tuple[int, str | None, bytes]]] = {number: [] for number in numbers}
        for parent, child in sorted(tables.edges):
            if child in found and parent in tables.results:
                found[child].append((parent, tables.tasks[parent].id, tables.results[parent]))
        return found

    def flows(self, numbers: Sequence[int]) -> list[Flow]:
        return [_read_flow(self.tables.flows[number]) for number in sorted(set(numbers) & self.tables.flows.keys())]

    def flow_of(self, submission: str) -> Flow | None:
        for flow in self.tables.flows.values():
            if flow.submission == submission:
                return _read_flow(flow)
        return None

    def chunk(self, flow: int, offset: int, count: int, complete: bool) -> Chunk | None:
        return self.tables.chunks.get((flow, offset, count, complete))

    def ready(self, lane: int, limit: int) -> list[Key]:
        tasks = self.tables.tasks.values()
        keys = [(-t.priority, t.tag, t.number) for t in tasks if t.state is State.READY and t.lane == lane]
        return sorted(keys)[:limit]

    def due(self, now: float, limit: int) -> list[Task]:
        found = sorted((due, number) for due, number in self._scheduled() if due <= now)
        return [copy.copy(self.tables.tasks[number]) for _, number in found[:limit]]

    def next_due(self) -> float | None:
        return min((due for due, _ in self._scheduled()), default=None)

    def _scheduled(self) -> list[tuple[float, int]]:
        tasks = self.tables.tasks.values()
        return [(t.due, t.number) for t in tasks if t.state is State.SCHEDULED and t.due is not None]

    def open_edges(self, parent: int, after: int, limit: int) -> list[Edge]:
        edges = self.tables.edges.items()
        found = [Edge(p, child, on) for (p, child), (on, settled) in edges if p == parent and not settled]
        return sorted(edge for edge in found if edge.child > after)[:limit]

    def parents(self, children: Sequence[int]) -> list[ParentEdge]:
        wanted, tasks = set(children), self.tables.tasks
        return [
            ParentEdge(child, parent, tasks[parent].flow, tasks[parent].state, on)
            for (parent, child), (on, _) in sorted(self.tables.edges.items())
            if child in wanted and parent in tasks
        ]

    def children(self, parents: Sequence[int]) -> list[int]:
        wanted = set(parents)
        return sorted({child for parent, child in self.tables.edges if parent in wanted})

    def flow_tasks(self, flow: int, after: int, limit: int) -> list[Task]:
        tasks = self.tables.tasks.items()
        numbers = sorted(number for number, task in tasks if task.flow == flow and number > after)
        return [copy.copy(self.tables.tasks[number]) for number in numbers[:limit]]

    # Writing

    def begin(self) -> None:
        assert self._before is None, "a transaction is open already"
        self._before = self.tables.copied()

    def commit(self) -> None:
        assert self._before is not None, "no transaction is open"
        self._before = None

    def rollback(self) -> None:
        if self._before is not None:
            self.tables, self._before = self._before, None

    def write(self, turn: Turn) -> None:
        tables = self.tables
        for lane in turn.new_lanes:
            assert lane.number not in tables.lanes, lane
            tables.lanes[lane.number] = _checked_lane(lane)
        for lane in turn.changed_lanes.values():
            if lane.number in tables.lanes:
                tables.lanes[lane.number] = replace(tables.lanes[lane.number], open=lane.open)
        self._write_flows(turn)
        self._write_tasks(turn)
        self._write_edges(turn)
        self._write_outcomes(turn)
        for bucket in turn.changed_buckets.values():
            tables.buckets[bucket.name] = bucket.asleep_until
        for key, change in turn.counts.items():
            if change:
                tables.counters[key] = tables.counters.get(key, 0) + change
        for name, value in turn.settings.items():
            if value is None:
                tables.settings.pop(name, None)
            else:
                tables.settings[name] = msgpack.packb(value)
        if turn.catalogue is not None:
            tables.catalogue = {info.type: _handler_row(info) for info in turn.catalogue}
            assert len(tables.catalogue) == len(turn.catalogue), "a type is there twice"
        self._delete(turn)

    def conclude(self, turn: Turn, events: EventBatch | None, virtual_time: float) -> None:
        tables = self.tables
        for cursor in turn.done_cursors:
            tables.cursors.pop((cursor.kind, cursor.target), None)
        for cursor in turn.moved_cursors.values():
            tables.cursors[cursor.kind, cursor.target] = cursor.position
            cursor.stored = True
        if turn.started:
            tables.meta["virtual_time"] = virtual_time
        if events is not None:
            last = events.first + len(events.events) - 1
            assert all(stored.first != events.first for stored in tables.events), events.first
            packed: list[list[Any]] = msgpack.unpackb(msgpack.packb(events.events))
            tables.events.append(StoredEvents(events.first, last, events.at, packed, events.ordinals_after()))
            tables.events.sort()

    def _write_flows(self, turn: Turn) -> None:
        tables = self.tables
        new = {flow.number for flow in turn.new_flows}
        for flow in turn.new_flows:
            assert flow.number not in tables.flows, flow
            assert all(stored.submission != flow.submission for stored in tables.flows.values()), flow
            tables.flows[flow.number] = _checked_flow(flow)
        for number, flow in turn.changed_flows.items():
            if number in tables.flows and number not in new:
                _assert_fixed(flow, tables.flows[number], _FLOW_FIXED[:-1])  # metadata is never loaded
                tables.flows[number] = _checked_flow(replace(flow, metadata=tables.flows[number].metadata))
        for chunk in turn.chunks:
            key = (chunk.flow, chunk.offset, chunk.count, chunk.complete)
            assert key not in tables.chunks, chunk
            tables.chunks[key] = chunk

    def _write_tasks(self, turn: Turn) -> None:
        tables = self.tables
        names = {(task.flow, task.id) for task in tables.tasks.values() if task.id is not None}
        new = set()
        for task, body in turn.new_tasks:
            assert task.number not in tables.tasks, task
            assert (task.flow, task.id) not in names, task
            if task.id is not None:
                names.add((task.flow, task.id))
            new.add(task.number)
            tables.tasks[task.number] = _checked_task(task)
            tables.bodies[task.number] = body
        for number, task in turn.changed.items():
            if number in tables.tasks and number not in new:
                _assert_fixed(task, tables.tasks[number], _TASK_FIXED)
                tables.tasks[number] = _checked_task(task)

    def _write_edges(self, turn: Turn) -> None:
        edges = self.tables.edges
        for edge in turn.dependencies:
            assert (edge.parent, edge.child) not in edges, edge
            edges[edge.parent, edge.child] = (On(edge.on), edge.settled)
        for parent, after, last in turn.settled_edges:
            for (its, child), (on, _) in list(edges.items()):
                if its == parent and after < child <= last:
                    edges[parent, child] = (on, True)
        for reopened in turn.reopened_edges:
            if reopened in edges:
                edges[reopened] = (edges[reopened][0], False)

    def _write_outcomes(self, turn: Turn) -> None:
        tables = self.tables
        for record in turn.attempts:
            assert (record.task, record.number) not in tables.attempts, record
            Outcome(record.outcome)
            tables.attempts[record.task, record.number] = replace(record)
        for number in turn.dropped_results:
            tables.results.pop(number, None)
        for number, value in turn.results:
            assert number not in tables.results, number
            tables.results[number] = value
        tables.logs += turn.logs

    def _delete(self, turn: Turn) -> None:
        tables, gone, flows = self.tables, set(turn.deleted_tasks), set(turn.deleted_flows)
        if gone:
            tables.edges = {key: edge for key, edge in tables.edges.items() if key[1] not in gone}
            tables.attempts = {key: record for key, record in tables.attempts.items() if key[0] not in gone}
            tables.results = {number: value for number, value in tables.results.items() if number not in gone}
            tables.logs = [line for line in tables.logs if line[0] not in gone]
            tables.bodies = {number: body for number, body in tables.bodies.items() if number not in gone}
            tables.tasks = {number: task for number, task in tables.tasks.items() if number not in gone}
        if flows:
            tables.chunks = {key: chunk for key, chunk in tables.chunks.items() if key[0] not in flows}
            tables.lanes = {number: lane for number, lane in tables.lanes.items() if lane.key.gate not in flows}
            tables.flows = {number: flow for number, flow in tables.flows.items() if number not in flows}
        # Numbers are never given twice, also when the newest were removed.
        tables.meta["next_task"] = max(tables.meta.get("next_task", 1), max(gone, default=0) + 1)
        tables.meta["next_flow"] = max(tables.meta.get("next_flow", 1), max(flows, default=0) + 1)

    def note_start(self) -> bool:
        unclean = bool(self.tables.meta.get("running", 0))
        self.tables.meta["running"] = 1
        return unclean

    def note_end(self) -> None:
        self.tables.meta["running"] = 0

    def close(self) -> None:
        self.rollback()


# What `schema.sql` checks


def _checked_task(task: Task) -> Task:
    State(task.state)
    assert -32768 <= task.priority <= 32767, task
    assert task.waiting >= 0, task
    assert task.dependents >= 0, task
    assert task.inputs >= 0, task
    assert task.state is not State.SCHEDULED or task.due is not None, task
    assert task.state not in (State.READY, State.RUNNING) or task.waiting == 0, task
    return copy.copy(task)


def _checked_flow(flow: Flow) -> Flow:
    FlowState(flow.state)
    assert flow.weight > 0, flow
    assert flow.cancelled in (False, True), flow
    assert all(count >= 0 for count in flow.counts.values()), flow
    return replace(flow, counts=dict(flow.counts))


def _checked_lane(lane: Lane) -> Lane:
    Kind(lane.key.kind)
    assert lane.open in (False, True), lane
    return replace(lane)


def _assert_fixed(row: Task | Flow, stored: Task | Flow, names: Sequence[str]) -> None:
    """The database would quietly keep these columns as they were."""
    for name in names:
        assert getattr(row, name) == getattr(stored, name), (name, row, stored)


def _read_flow(flow: Flow) -> Flow:
    counts = {state: count for state, count in sorted(flow.counts.items()) if count}
    return replace(flow, counts=counts, metadata=None)


def _handler_row(info: HandlerInfo) -> bytes:
    packed: bytes = msgpack.packb({part.name: getattr(info, part.name) for part in fields(info)})
    return packed


def _handler_from(value: bytes) -> HandlerInfo:
    unpacked = msgpack.unpackb(value)
    return HandlerInfo(**{**unpacked, "kind": Kind(unpacked["kind"])})
