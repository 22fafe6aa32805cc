"""What every store does, verb by verb. There is one so far; another one gets a line in `STORES`.

Does not cover: when the engine calls which verb (tests/unit/engine), what people ask (`store.reader`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from helpers.store_contents import contents
from helpers.turns import NOW, make_flow, make_task, make_turn

from gemflowd.core.turn import Chunk, Cursor, CursorKind, Turn
from gemflowd.model.attempt import AttemptRecord, HandlerInfo, Kind, Outcome
from gemflowd.model.event import Event, EventBatch
from gemflowd.model.lane import Bucket, Lane, LaneKey
from gemflowd.model.schedule import Schedule
from gemflowd.model.states import FlowState, On, State
from gemflowd.model.task import Dependency
from gemflowd.store.base import Edge, ParentEdge, ParentState, Store
from gemflowd.store.sqlite import SqliteStore
from gemflowd.store.tables import HeldValue, NewValue

REFUSED = (AssertionError, ValueError, apsw.ConstraintError)


class Place:
    """Where the content of a store is when no store is open."""

    def __init__(self, kind: Callable[[Path], Any], path: Path) -> None:
        self._kind, self._path = kind, path
        self.store: Any = kind(path)

    def reopened(self) -> Store:
        """After the process is gone at this moment."""
        self.store.close()
        self.store = self._kind(self._path)
        return self.store


STORES = {"sqlite": SqliteStore}


@pytest.fixture(params=STORES.values(), ids=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(request.param, tmp_path / "gemflow.db")
    yield place
    place.store.close()


@pytest.fixture
def store(place: Place) -> Store:
    return place.store


def write(store: Store, fill: Callable[[Turn], object]) -> Turn:
    """One transaction with what `fill` puts into its turn."""
    turn = make_turn()
    store.begin()
    fill(turn)
    store.write(turn)
    store.commit()
    return turn


def conclude(store: Store, turn: Turn, batch: EventBatch | None = None, **meta: float) -> None:
    store.begin()
    store.conclude(turn, batch, meta)
    store.commit()


def with_tasks(store: Store, *tasks: Any, flows: tuple[int, ...] = (1,)) -> Turn:
    def fill(turn: Turn) -> None:
        turn.new_lanes = list(turn.lanes.values())
        turn.new_flows = [make_flow(number) for number in flows]
        turn.new_tasks = [(task, b"body %d" % task.number) for task in tasks]

    return write(store, fill)


def changed(store: Store, *tasks: Any) -> None:
    write(store, lambda turn: turn.changed.update({task.number: task for task in tasks}))


# Tasks


def test_an_empty_store_begins_at_one(store: Store):
    snapshot = store.load()
    assert (snapshot.next_task, snapshot.next_flow, snapshot.next_event) == (1, 1, 1)
    assert (snapshot.lanes, snapshot.buckets, snapshot.cursors, snapshot.running) == ({}, {}, [], [])
    assert (snapshot.ordinals, snapshot.settings, snapshot.catalogue, snapshot.queues) == ({}, {}, [], {})
    assert store.next_times(wall=False) is None


def test_a_task_comes_back_as_it_was_written(store: Store):
    task = make_task(
        7, State.RUNNING, id="a-1", timeout=2.5, retries=0, backoff=0.25, tag=1.5, due=None, dependents=2, inputs=1,
        token=3, attempts=2, tries=1, losses=1, crashes=1, cancelled=True, started=NOW, finished=None, slot="b1",
        reason="lost", priority=-32768,
    )  # fmt: skip
    with_tasks(store, task)
    assert store.tasks([7]) == [task]
    assert store.tasks_by_id(1, ["a-1", "b"]) == {"a-1": task}
    assert store.tasks_by_id(2, ["a-1"]) == {}
    assert store.bodies([7, 8]) == {7: b"body 7"}


def test_only_tasks_that_exist_are_found(store: Store):
    with_tasks(store, make_task(1), make_task(2))
    assert [task.number for task in store.tasks([3, 2])] == [2]
    assert store.tasks([]) == []
    assert store.flows([]) == []
    assert store.bodies([]) == {}


def test_changing_a_row_without_writing_it_changes_nothing(store: Store):
    task = make_task(1)
    with_tasks(store, task)
    task.state = State.FAILED
    (read,) = store.tasks([1])
    read.state = State.CANCELLED
    (flow,) = store.flows([1])
    flow.counts[State.READY] = 99
    assert store.tasks([1])[0].state is State.READY
    assert store.flows([1])[0].counts == {}


def test_everything_that_scheduling_changes_is_stored(store: Store):
    task = make_task(1, State.BLOCKED, waiting=1, id="a")
    with_tasks(store, task)
    task = copy.copy(task)
    task.state, task.lane, task.tag, task.due, task.waiting, task.dependents = State.SCHEDULED, 2, 3.5, NOW + 1, 0, 4
    task.token, task.attempts, task.tries, task.losses, task.crashes, task.cancelled = 5, 6, 7, 8, 9, True
    task.started, task.finished, task.slot, task.reason, task.priority = NOW, NOW + 2, "b2", "because", 9
    changed(store, task)
    assert store.tasks([1]) == [task]


def test_a_task_that_is_new_and_changed_is_written_once(store: Store):
    task = make_task(1)

    def fill(turn: Turn) -> None:
        turn.new_lanes, turn.new_flows = list(turn.lanes.values()), [make_flow(1)]
        turn.new_tasks, turn.changed = [(task, b"")], {1: task}

    write(store, fill)
    assert store.tasks([1]) == [task]


def test_many_rows_go_in_and_come_out(store: Store):
    tasks = [make_task(number, tag=float(number)) for number in range(1, 1_002)]
    with_tasks(store, *tasks)
    for task in tasks:
        task.attempts = task.number
    changed(store, *tasks)
    found = store.tasks(list(range(1, 2_000)))
    assert len(found) == 1_001
    assert all(task.attempts == task.number for task in found)
    assert len(store.bodies(list(range(1, 2_000)))) == 1_001


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": State.SCHEDULED},
        {"state": State.READY, "waiting": 1},
        {"state": State.RUNNING, "waiting": 1},
        {"state": State.BLOCKED, "waiting": -1},
        {"state": 11},
        {"priority": 32768},
        {"priority": -32769},
        {"dependents": -1},
        {"inputs": -1},
    ],
    ids=str,
)
def test_rows_that_no_decision_can_make_are_refused(store: Store, wrong: dict[str, Any]):
    with pytest.raises(REFUSED):
        with_tasks(store, make_task(1, **wrong))
    store.rollback()
    assert store.tasks([1]) == []


def test_a_change_to_such_a_row_is_refused_too(store: Store):
    with_tasks(store, make_task(1))
    with pytest.raises(REFUSED):
        changed(store, make_task(1, State.READY, waiting=1))
    store.rollback()
    assert store.tasks([1])[0].waiting == 0


def test_numbers_and_ids_are_unique(store: Store):
    with_tasks(store, make_task(1, id="a"))
    for twin in (make_task(1), make_task(2, id="a")):
        with pytest.raises(REFUSED):
            write(store, lambda turn, twin=twin: turn.new_tasks.append((twin, b"")))
        store.rollback()
    write(store, lambda turn: turn.new_tasks.extend([(make_task(2), b""), (make_task(3), b"")]))
    assert len(store.tasks([1, 2, 3])) == 3


# Ready, due, in order


def test_ready_is_by_priority_then_tag_then_number(store: Store):
    with_tasks(
        store,
        make_task(1, priority=5, tag=2.0),
        make_task(2, priority=5, tag=1.0),
        make_task(3, urgency=9, tag=7.0),
        make_task(4, priority=5, tag=1.0),
        make_task(5, urgency=-3, priority=9, tag=0.5),
        make_task(6, State.BLOCKED, waiting=1, priority=9),
        make_task(7, urgency=9, lane=2),
        make_task(8, State.RUNNING, priority=9),
    )
    keys = [(-9, 7.0, 3), (-5, 1.0, 2), (-5, 1.0, 4), (-5, 2.0, 1), (3, 0.5, 5)]
    assert store.ready(1, 100) == keys
    assert store.ready(1, 2) == keys[:2]
    assert store.ready(2, 100) == [(-9, 0.0, 7)]
    assert store.ready(3, 100) == []


def test_ready_sees_what_the_same_transaction_wrote(store: Store):
    with_tasks(store, make_task(1))
    store.begin()
    turn = make_turn()
    turn.changed[1] = make_task(1, State.RUNNING)
    store.write(turn)
    assert store.ready(1, 10) == []
    store.rollback()
    assert [key[2] for key in store.ready(1, 10)] == [1]


def test_due_is_in_order_of_time_and_limited(store: Store):
    with_tasks(
        store,
        make_task(1, State.SCHEDULED, due=NOW + 5),
        make_task(2, State.SCHEDULED, due=NOW),
        make_task(3, State.SCHEDULED, due=NOW - 1),
        make_task(4, State.SCHEDULED, due=NOW),
        make_task(5, State.BLOCKED, waiting=1, due=NOW - 9),
    )
    assert [task.number for task in store.due(NOW, 10, wall=False)] == [3, 2, 4]
    assert [task.number for task in store.due(NOW, 2, wall=False)] == [3, 2]
    assert store.next_times(wall=False) == NOW - 1


# Flows and chunks


def test_a_flow_comes_back_with_its_counts(store: Store):
    flow = make_flow(3, name="n", counts={State.READY: 2, State.QUARANTINED: 1}, weight=0.5, last_tag=1.25)
    write(store, lambda turn: turn.new_flows.append(flow))
    assert store.flows([3, 4]) == [flow]
    assert store.flow_of("s3") == flow
    assert store.flow_of("s4") is None


def test_metadata_is_kept_though_it_is_never_loaded(store: Store):
    flow = make_flow(1, metadata=b"\x80")
    write(store, lambda turn: turn.new_flows.append(flow))
    (loaded,) = store.flows([1])
    assert loaded.metadata is None
    loaded.received = 5
    write(store, lambda turn: turn.changed_flows.update({1: loaded}))
    assert store.flows([1])[0].received == 5
    assert _one(store, "SELECT metadata FROM flow") == b"\x80"


def _one(store: Any, query: str) -> Any:
    return store._db.execute(query).get


def test_changes_of_a_flow_are_stored(store: Store):
    write(store, lambda turn: turn.new_flows.append(make_flow(1, state=FlowState.OPEN)))
    flow = make_flow(1, state=FlowState.CANCELLED, finished=NOW, first=4, received=9, last_tag=2.0, cancelled=True)
    flow.counts = {State.CANCELLED: 9, State.READY: 0}
    write(store, lambda turn: turn.changed_flows.update({1: flow}))
    flow.counts = {State.CANCELLED: 9}
    assert store.flows([1]) == [flow]


@pytest.mark.parametrize("wrong", [{"weight": 0.0}, {"state": 6}, {"counts": {State.READY: -1}}], ids=str)
def test_flows_that_no_decision_can_make_are_refused(store: Store, wrong: dict[str, Any]):
    with pytest.raises(REFUSED):
        write(store, lambda turn: turn.new_flows.append(make_flow(1, **wrong)))
    store.rollback()


def test_a_submission_belongs_to_one_flow(store: Store):
    write(store, lambda turn: turn.new_flows.append(make_flow(1)))
    with pytest.raises(REFUSED):
        write(store, lambda turn: turn.new_flows.append(make_flow(2, submission="s1")))
    store.rollback()


def test_a_chunk_is_found_by_all_that_makes_it(store: Store):
    chunk = Chunk(1, 10, 5, 11, False, b"digest")
    write(store, lambda turn: turn.chunks.append(chunk))
    assert store.chunk(1, 10, 5, False) == chunk
    for other in ((2, 10, 5, False), (1, 11, 5, False), (1, 10, 4, False), (1, 10, 5, True)):
        assert store.chunk(*other) is None


def test_tasks_of_a_flow_are_paged_by_number(store: Store):
    with_tasks(store, *(make_task(number, flow=number % 2 + 1) for number in range(1, 10)), flows=(1, 2))
    assert [task.number for task in store.flow_tasks(1, 0, 3)] == [2, 4, 6]
    assert [task.number for task in store.flow_tasks(1, 6, 3)] == [8]
    assert store.flow_tasks(3, 0, 3) == []


# Dependencies and results


@pytest.fixture
def family(store: Store) -> Store:
    """1 and 2 are parents; 3 waits for both, 4 and 5 for 1."""
    with_tasks(
        store,
        make_task(1, State.SUCCEEDED, id="one"),
        make_task(2, State.FAILED, flow=2),
        *(make_task(number, State.BLOCKED, waiting=1) for number in (3, 4, 5)),
        flows=(1, 2),
    )
    edges = [
        Dependency(1, 3, On.SUCCESS),
        Dependency(2, 3, On.DONE, settled=True),
        Dependency(1, 4, On.FAILURE),
        Dependency(1, 5, On.SUCCESS),
    ]
    write(store, lambda turn: turn.dependencies.extend(edges))
    return store


def test_edges_seen_from_both_ends(family: Store):
    assert family.open_edges(1, 0, 10) == [Edge(1, 3, On.SUCCESS), Edge(1, 4, On.FAILURE), Edge(1, 5, On.SUCCESS)]
    assert family.open_edges(1, 3, 1) == [Edge(1, 4, On.FAILURE)]
    assert family.open_edges(2, 0, 10) == []  # settled
    assert sorted(family.parents([3, 4])) == [
        ParentEdge(3, 1, 1, State.SUCCEEDED, On.SUCCESS),
        ParentEdge(3, 2, 2, State.FAILED, On.DONE),
        ParentEdge(4, 1, 1, State.SUCCEEDED, On.FAILURE),
    ]
    assert family.count_parents(3) == 2
    assert family.parents_page(3, 0, 10) == [
        ParentState(1, On.SUCCESS, False, 1, State.SUCCEEDED),
        ParentState(2, On.DONE, True, 2, State.FAILED),
    ]
    assert [edge.parent for edge in family.parents_page(3, 1, 10)] == [2]
    assert [edge.parent for edge in family.parents_page(3, 0, 1)] == [1]
    assert sorted(family.children([1, 2])) == [3, 4, 5]
    assert family.children([5]) == []


def test_edges_are_settled_by_range_and_opened_again(family: Store):
    write(family, lambda turn: turn.settled_edges.append((1, 0, 4)))
    assert [edge.child for edge in family.open_edges(1, 0, 10)] == [5]
    write(family, lambda turn: turn.reopened_edges.append((1, 3)))
    assert [edge.child for edge in family.open_edges(1, 0, 10)] == [3, 5]
    assert len(family.parents([3])) == 2, "settled or not, it is a dependency"


def test_an_edge_is_there_once(family: Store):
    with pytest.raises(REFUSED):
        write(family, lambda turn: turn.dependencies.append(Dependency(1, 3, On.DONE)))
    family.rollback()


def test_inputs_are_the_results_of_dependencies(family: Store):
    write(family, lambda turn: turn.results.append((1, b"r1")))
    assert family.inputs([3, 4, 9]) == {3: [(1, "one", b"r1")], 4: [(1, "one", b"r1")], 9: []}
    write(family, lambda turn: turn.results.append((2, b"r2")))
    assert family.inputs([3]) == {3: [(1, "one", b"r1"), (2, None, b"r2")]}


def test_there_is_one_result_and_retry_drops_it(family: Store):
    write(family, lambda turn: turn.results.append((1, b"r1")))
    with pytest.raises(REFUSED):
        write(family, lambda turn: turn.results.append((1, b"again")))
    family.rollback()

    def retried(turn: Turn) -> None:
        turn.dropped_results.append(1)
        turn.results.append((1, b"new"))

    write(family, retried)
    assert contents(family).results == {1: b"new"}


def test_attempts_and_logs_are_kept(family: Store):
    record = AttemptRecord(3, 1, "b1", NOW, NOW + 1, Outcome.ERROR, 0.5, b"e", b"u", 12)

    def fill(turn: Turn) -> None:
        turn.attempts.append(record)
        turn.logs.append((3, 1, NOW, "stdout", "hello"))

    write(family, fill)
    found = contents(family)
    assert found.attempts == {(3, 1): Outcome.ERROR}
    assert found.logs == [(3, 1, NOW, "stdout", "hello")]
    with pytest.raises(REFUSED):
        write(family, fill)
    family.rollback()


# Lanes, limits, counters


def test_lanes_and_buckets_are_remembered(place: Place):
    store = place.store
    gated = Lane(2, LaneKey("q", "b", Kind.COROUTINE, 7), open=False)
    write(store, lambda turn: turn.new_lanes.extend([Lane(1, LaneKey("q", None, Kind.BLOCKING)), gated]))
    write(store, lambda turn: turn.changed_buckets.update(b=Bucket("b", NOW + 9, in_flight=3)))
    gated.open = True
    write(store, lambda turn: turn.changed_lanes.update({2: gated}))
    snapshot = place.reopened().load()
    assert snapshot.lanes == {1: Lane(1, LaneKey("q", None, Kind.BLOCKING)), 2: gated}
    assert snapshot.buckets == {"b": Bucket("b", NOW + 9)}


def test_counters_add_up(store: Store):
    write(store, lambda turn: turn.counts.update({("q", State.READY): 3, ("r", State.READY): 1}))
    write(
        store,
        lambda turn: turn.counts.update({("q", State.READY): -2, ("q", State.RUNNING): 2, ("r", State.READY): -1}),
    )
    assert contents(store).counters == {("q", State.READY): 1, ("q", State.RUNNING): 2}


# Cursors, events, settings: what is written once a turn, or kept beside the queue


def test_a_cursor_is_moved_and_removed(place: Place):
    store = place.store
    turn = make_turn()
    turn.cursor(CursorKind.SETTLE, 5)
    turn.cursor(CursorKind.CANCEL, 5)
    conclude(store, turn)
    assert all(cursor.stored for cursor in turn.cursors.values())
    moved = turn.cursors[CursorKind.SETTLE, 5]
    moved.position = 42
    turn.moved_cursors = {(CursorKind.SETTLE, 5): moved}
    turn.done_cursors = [turn.cursors[CursorKind.CANCEL, 5]]
    conclude(store, turn)
    found = place.reopened().load().cursors
    assert [(cursor.kind, cursor.target, cursor.position) for cursor in found] == [(CursorKind.SETTLE, 5, 42)]


def test_a_cursor_that_ended_and_began_again_in_one_turn_stays(store: Store):
    turn = make_turn()
    turn.cursor(CursorKind.SETTLE, 5)
    conclude(store, turn)
    turn = make_turn()
    turn.done_cursors = [Cursor(CursorKind.SETTLE, 5, stored=True)]
    turn.cursor(CursorKind.SETTLE, 5)
    conclude(store, turn)
    assert len(store.load().cursors) == 1


def test_events_and_ordinals_go_on_where_they_were(place: Place):
    events = [Event("task.ready", {"task": 1}), Event("task.ready", {"task": 2}), Event("flow.active", {"flow": 1})]
    conclude(place.store, make_turn(), EventBatch(1, NOW, events, {}))
    store = place.reopened()
    snapshot = store.load()
    assert snapshot.next_event == 4
    assert snapshot.ordinals == {"task.ready": 2, "flow.active": 1}
    conclude(store, make_turn(), EventBatch(4, NOW, [Event("task.ready", {})], snapshot.ordinals))
    snapshot = place.reopened().load()
    assert snapshot.next_event == 5
    assert snapshot.ordinals == {"task.ready": 3, "flow.active": 1}
    assert [(batch.first, batch.last) for batch in contents(place.store).events] == [(1, 3), (4, 4)]


def test_the_engines_figures_are_kept(place: Place):
    conclude(place.store, make_turn(), virtual_time=5.0, queued_bytes=3)
    conclude(place.store, make_turn(), virtual_time=7.5)
    assert place.reopened().load().meta["queued_bytes"] == 3
    assert place.reopened().load().meta["virtual_time"] == 7.5


def test_settings_are_kept_changed_and_reset(place: Place):
    write(place.store, lambda turn: turn.settings.update(workers=4, profile="maximum", fair=False))
    write(place.store, lambda turn: turn.settings.update(workers=5, profile=None, unknown=None))
    assert place.reopened().load().settings == {"workers": 5, "fair": False}


def test_the_catalogue_is_replaced_as_a_whole(place: Place):
    echo = HandlerInfo("echo", Kind.BLOCKING, {"type": "object"}, "Says it again.", None, 1, 2.5, "basic", {"a": 1})
    model = HandlerInfo("gemini", Kind.COROUTINE, {}, bucket="gemini:{model}")
    write(place.store, lambda turn: setattr(turn, "catalogue", [echo, model]))
    assert sorted(place.reopened().load().catalogue, key=lambda info: info.type) == [echo, model]
    write(place.store, lambda turn: setattr(turn, "catalogue", [model]))
    write(place.store, lambda turn: None)
    assert place.reopened().load().catalogue == [model]


def test_an_unclean_end_is_noticed(place: Place):
    assert not place.store.note_start()
    assert place.reopened().note_start()
    place.store.note_end()
    assert not place.reopened().note_start()


# Transactions


def test_a_rollback_leaves_nothing_behind(family: Store):
    before = contents(family)
    family.begin()
    turn = make_turn(lanes=[])
    turn.new_lanes = [Lane(9, LaneKey("x", None, Kind.BLOCKING))]
    turn.new_flows = [make_flow(9)]
    turn.new_tasks = [(make_task(9, flow=9), b"")]
    turn.changed = {3: make_task(3, State.CANCELLED)}
    turn.settled_edges = [(1, 0, 9)]
    turn.results = [(1, b"r")]
    turn.chunks = [Chunk(9, 0, 1, 9, True, b"")]
    turn.logs = [(1, 1, NOW, "stdout", "x")]
    turn.counts[("x", State.READY)] = 1
    turn.settings = {"a": 1}
    turn.deleted_tasks, turn.deleted_flows = [5], [2]
    family.write(turn)
    turn.cursor(CursorKind.SETTLE, 1)
    turn.started = [make_task(1)]
    family.conclude(turn, EventBatch(1, NOW, [Event("x", {})], {}), {})
    assert contents(family) != before
    family.rollback()
    assert contents(family) == before
    snapshot = family.load()
    assert (snapshot.next_task, snapshot.next_event, snapshot.settings) == (6, 1, {})


def test_a_rollback_outside_a_transaction_is_no_mistake(family: Store):
    before = contents(family)
    family.rollback()
    assert contents(family) == before


def test_what_was_not_committed_is_gone_with_the_process(place: Place):
    with_tasks(place.store, make_task(1))
    place.store.begin()
    turn = make_turn()
    turn.changed[1] = make_task(1, State.RUNNING)
    place.store.write(turn)
    assert place.reopened().tasks([1])[0].state is State.READY


def test_what_was_running_is_in_the_snapshot(place: Place):
    with_tasks(place.store, make_task(1), make_task(2, State.RUNNING, token=4, slot="b1"))
    assert place.reopened().load().running == [make_task(2, State.RUNNING, token=4, slot="b1")]


# Deletion


def test_a_deleted_flow_leaves_nothing(family: Store):
    def more(turn: Turn) -> None:
        turn.new_lanes.append(Lane(5, LaneKey("q", None, Kind.BLOCKING, gate=1), open=False))
        turn.chunks.append(Chunk(1, 0, 5, 1, False, b""))
        turn.results.append((1, b"r"))
        turn.attempts.append(AttemptRecord(1, 1, "b1", NOW, NOW, Outcome.DONE, 0.1))
        turn.logs.append((1, 1, NOW, "stdout", "x"))

    write(family, more)

    assert family.shrink([1, 3, 4, 5], 2) == 2, "in pieces"
    assert 0 < family.shrink([1, 3, 4, 5], 100) < 100

    def delete(turn: Turn) -> None:
        turn.deleted_tasks.extend([1, 3, 4, 5])
        turn.deleted_flows.append(1)

    write(family, delete)
    found = contents(family)
    assert set(found.tasks) == set(found.bodies) == {2}
    assert set(found.flows) == {2}
    assert (found.edges, found.results, found.attempts, found.logs, found.chunks) == ([], {}, {}, [], 0)
    assert set(family.load().lanes) == {1}


def test_numbers_are_never_given_twice(place: Place):
    with_tasks(place.store, make_task(1), make_task(2), flows=(1, 2))

    def delete(turn: Turn) -> None:
        turn.deleted_tasks.append(2)
        turn.deleted_flows.append(2)

    write(place.store, delete)
    write(place.store, lambda turn: turn.deleted_tasks.append(1))  # a smaller one later does not lower it
    snapshot = place.reopened().load()
    assert (snapshot.next_task, snapshot.next_flow) == (3, 3)


# The shared memory


def value(version: int = 1, body: bytes = b"\x01", until: float | None = None, **writer: Any) -> NewValue:
    fields = {"task": None, "attempt": None, "client": None, **writer}
    return NewValue(body, version, NOW, until, **fields)


def test_a_value_is_held_under_its_namespace_and_key(store: Store):
    store.begin()
    store.values.put("n", "a", value(1, b"123", until=7.5))
    store.values.put("n", "b", value(2))
    assert store.values.held("n", "a") == HeldValue(1, 3, 7.5)
    assert store.values.held("m", "a") is None
    store.values.put("n", "a", value(3, b"12", task=1, attempt=2))
    assert store.values.held("n", "a") == HeldValue(3, 2, None)
    store.values.delete("n", "a")
    store.values.delete("n", "a")
    assert store.values.held("n", "a") is None
    assert store.values.held("n", "b") == HeldValue(2, 1, None)
    store.commit()


def test_values_expire_in_their_order(store: Store):
    assert store.values.next_expiry() is None
    for key, until in (("late", 30.0), ("never", None), ("first", 10.0), ("second", 20.0)):
        store.values.put("n", key, value(until=until, body=key.encode()))
    assert store.values.next_expiry() == 10.0
    assert store.values.expired(9.9, 10) == []
    assert store.values.expired(20.0, 10) == [("n", "first", 5), ("n", "second", 6)]
    assert store.values.expired(99.0, 1) == [("n", "first", 5)]
    assert store.values.held("n", "first") is not None, "it knows no clock"


def test_values_are_part_of_the_transaction(place: Place):
    store = place.store
    store.begin()
    store.values.put("n", "kept", value())
    store.commit()
    store.begin()
    store.values.put("n", "kept", value(2))
    store.values.put("n", "new", value(3))
    store.rollback()
    store.begin()
    store.values.delete("n", "kept")
    store = place.reopened()
    assert store.values.held("n", "kept") == HeldValue(1, 1, None)
    assert store.values.held("n", "new") is None


# Schedules


def make_schedule(name: str = "nightly", **fields: Any) -> Schedule:
    values: dict[str, Any] = {
        "cron": "0 3 * * *",
        "zone": "Europe/Berlin",
        "misfire": "all",
        "misfire_limit": 7,
        "overlap": "queue",
        "paused": False,
        "next_run": NOW + 5,
        "last_run": NOW - 5,
        "last_flow": 3,
        "waiting": NOW - 1,
        "fired": 2,
        "skipped": 1,
        "created": NOW - 100.5,
    }
    return Schedule(name=name, **{**values, **fields})


def put(store: Store, *schedules: Schedule) -> None:
    store.begin()
    for schedule in schedules:
        store.schedules.put(schedule, b"shown " + schedule.name.encode(), b"task " + schedule.name.encode())
    store.commit()


def test_a_schedule_comes_back_as_it_was_put(place: Place):
    put(place.store, make_schedule(), make_schedule("b", paused=True, next_run=None, waiting=None, last_flow=None))
    table = place.reopened().schedules
    assert table.get("nightly") == make_schedule()
    assert table.get("b") == make_schedule("b", paused=True, next_run=None, waiting=None, last_flow=None)
    assert (table.shown("nightly"), table.task("b")) == (b"shown nightly", b"task b")
    assert table.get("c") is None


def test_a_schedule_is_replaced_moved_on_and_removed(store: Store):
    table = store.schedules
    put(store, make_schedule())
    put(store, make_schedule(cron="* * * * *"))
    assert table.get("nightly") == make_schedule(cron="* * * * *")
    moved = make_schedule(
        cron="* * * * *", paused=True, next_run=None, last_run=NOW, last_flow=9, waiting=None, fired=5, skipped=4
    )
    store.begin()
    table.update(moved)
    store.commit()
    assert table.get("nightly") == moved
    assert table.task("nightly") == b"task nightly"
    store.begin()
    table.remove("nightly")
    table.remove("nightly")
    store.commit()
    assert table.get("nightly") is None


def test_schedules_go_with_their_turn(store: Store):
    put(store, make_schedule())
    store.begin()
    store.schedules.update(make_schedule(fired=99))
    store.schedules.put(make_schedule("b"), b"", b"")
    store.rollback()
    assert store.schedules.get("nightly") == make_schedule()
    assert store.schedules.get("b") is None


def test_schedules_that_are_due_the_earliest_first(store: Store):
    table = store.schedules
    assert (table.due(NOW, 10), table.next_run()) == ([], None)
    put(
        store,
        make_schedule("late", next_run=NOW - 1),
        make_schedule("b", next_run=NOW - 9),
        make_schedule("a", next_run=NOW - 9),
        make_schedule("now", next_run=NOW),
        make_schedule("soon", next_run=NOW + 0.5),
        make_schedule("paused", paused=True, next_run=None),
    )
    assert [it.name for it in table.due(NOW, 10)] == ["a", "b", "late", "now"]
    assert [it.name for it in table.due(NOW, 2)] == ["a", "b"]
    assert table.due(NOW, 0) == []
    assert table.next_run() == NOW - 9


def test_what_the_engine_remembers_of_schedules(store: Store):
    assert (store.load().next_run, store.load().awaited) == (None, {})
    put(
        store,
        make_schedule("a", last_flow=4),
        make_schedule("b", last_flow=5, waiting=None, next_run=NOW + 1),
        make_schedule("c", paused=True, last_flow=6, next_run=None),
    )
    assert (store.load().next_run, store.load().awaited) == (NOW + 1, {4: "a", 6: "c"})
