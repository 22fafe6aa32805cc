"""Flows in chunks by their critical path: put in order over several turns, then opened."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from helpers.rig import Rig, ask, words
from helpers.tasks import Answer, dep, many, new, submission

from gemflowd.core.graph import remaining_paths
from gemflowd.core.turn import CursorKind
from gemflowd.engine import critical_path, cursors, engine
from gemflowd.engine.engine import TURN_ROWS
from gemflowd.model.errors import StoreFull
from gemflowd.model.facts import Cancel, Configure, Delete, Edit, Hold, NewTask, Release, Submit, TaskNumber
from gemflowd.model.refs import FlowRef
from gemflowd.model.rules import Rules
from gemflowd.model.states import State
from gemflowd.model.task import Ordering, Task

CHUNK = 7


@pytest.fixture
def small() -> Iterator[None]:
    """A few dozen tasks take many turns."""
    with (
        mock.patch.object(engine, "TURN_ROWS", 12),
        mock.patch.object(cursors, "STEP", 3),
        mock.patch.multiple(critical_path, _PIECE=3, _A_ROW=1),
    ):
        yield


class Graph:
    """A random flow in chunks. Inside a chunk a task may stand before what it waits for."""

    def __init__(self, count: int = 40, seed: int = 1) -> None:
        dice = random.Random(seed)
        order = list(range(count))
        for start in range(0, count, CHUNK):
            part = order[start : start + CHUNK]
            dice.shuffle(part)
            order[start : start + CHUNK] = part
        self.parents: list[list[int]] = [[] for _ in range(count)]
        for place, index in enumerate(order):
            earlier = order[:place]
            self.parents[index] = dice.sample(earlier, min(len(earlier), dice.choice([0, 1, 1, 2])))
        self.seconds = [float(dice.randint(1, 9)) for _ in range(count)]

    def tasks(self) -> list[NewTask]:
        return [
            new(
                f"t{index}",
                *[dep(p % CHUNK if p // CHUNK == index // CHUNK else f"t{p}") for p in its],
                estimate=self.seconds[index],
            )
            for index, its in enumerate(self.parents)
        ]

    def order(self) -> list[str]:
        """The ids by the longest remaining path."""
        *_, remaining = remaining_paths(self.seconds, self.parents)
        assert remaining is not None
        return [f"t{index}" for index in sorted(range(len(remaining)), key=lambda index: -remaining[index])]

    def all_but_last(self, rig: Rig, uuid: str = "cp", *, between: bool = True, **how: Any) -> Submit:
        """Send the chunks but for the last, which is returned."""
        tasks = self.tasks()
        for start in range(0, len(tasks) - CHUNK, CHUNK):
            part = tasks[start : start + CHUNK]
            rig.submit(part, uuid, offset=start, complete=False, critical_path=True, **how)
            if between:
                rig.submit(many(2, queue="other"), f"between {start}")
        start += CHUNK
        return submission(Answer(), uuid, tasks[start:], offset=start, critical_path=True, **how)

    def send(self, rig: Rig, **how: Any) -> Answer:
        """Send all chunks; the last is not decided yet."""
        last = self.all_but_last(rig, **how)
        rig.post(last)
        assert isinstance(last.reply, Answer)
        return last.reply


def its(rig: Rig, flow: int) -> list[Task]:
    return [task for task in rig.contents().tasks.values() if task.flow == flow]


def by_place(rig: Rig, flow: int) -> list[str]:
    return [str(task.id) for task in sorted(its(rig, flow), key=lambda task: (task.tag, task.number))]


def shut(rig: Rig, flow: int) -> bool:
    (opened,) = {lane.open for lane in rig.engine._memory.lanes.values() if lane.key.gate == flow}
    return not opened


def ordering(rig: Rig) -> bool:
    return (CursorKind.ORDER, 0) in rig.contents().cursors


def turns(rig: Rig, count: int) -> None:
    for _ in range(count):
        rig.turn()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(4))
def test_it_starts_by_the_longest_remaining_path(seed: int):
    rig, graph = Rig(), Graph(seed=seed)
    answer = graph.send(rig)
    rig.turn()
    assert answer.body["state"] == "active"
    rig.run()
    assert by_place(rig, 1) == graph.order()
    rank = {name: place for place, name in enumerate(graph.order())}
    rig.slots()
    started = 0
    while rig.running():
        task = rig.task(rig.running()[0])
        if task.flow == 1:
            started += 1
            ready = [rank[str(other.id)] for other in its(rig, 1) if other.state is State.READY]
            assert rank[str(task.id)] < min(ready, default=99)
        rig.end(task.number)
    assert started == 40
    rig.check()


@pytest.mark.usefixtures("small")
def test_after_a_crash_in_whatever_turn_it_is_opened_once_and_in_order():
    graph, crashed_in, was_shut = Graph(), 1, True
    while was_shut:
        rig = Rig()
        rig.slots()
        rig.submit(many(5), "before")
        for number in range(1, 6):
            rig.end(number)
        graph.send(rig, between=False)
        turns(rig, crashed_in)
        was_shut = shut(rig, 2)
        rig.crash()
        rig.slots()
        while shut(rig, 2):
            assert not rig.running()
            rig.turn()
            rig.check()
        assert not ordering(rig)
        assert by_place(rig, 2) == graph.order()
        flow, shift = rig.contents().flows[2], 5.0
        assert {lane.shift for lane in rig.engine._memory.lanes.values() if lane.key.gate} == {shift}
        assert (flow.ordering, flow.last_tag) == (Ordering.NONE, 40.0 + shift)
        rig.crash()
        rig.run()
        assert {lane.shift for lane in rig.engine._memory.lanes.values() if lane.key.gate} == {shift}
        rig.check()
        crashed_in += 1
    assert crashed_in > 10


@pytest.mark.usefixtures("small")
def test_a_turn_that_fails_begins_anew():
    rig, graph = Rig(), Graph()
    graph.send(rig)
    while rig.engine._memory.ordering is None or rig.engine._memory.ordering.given < 9:
        rig.turn()
    assert shut(rig, 1)
    rig.store.fail = ("conclude", StoreFull("full"))
    rig.run()
    assert rig.store.fail is None
    assert by_place(rig, 1) == graph.order()


@pytest.mark.usefixtures("small")
def test_the_order_is_that_of_the_first_chunk_and_a_repeat_changes_nothing():
    rig, graph = Rig(), Graph()
    graph.send(rig)
    turns(rig, 3)
    again = Answer()
    rig.post(submission(again, "cp", graph.tasks()[35:], offset=35, critical_path=True))
    late = Answer()
    rig.post(submission(late, "cp", many(1), offset=40, critical_path=True))
    rig.run()
    assert again.body["repeated"]
    assert late.code == "submission_closed"
    assert by_place(rig, 1) == graph.order()


@pytest.mark.usefixtures("small")
def test_two_flows_one_after_the_other_while_others_wait_for_them():
    rig, first, second = Rig(), Graph(seed=1), Graph(seed=2)
    lasts = [
        first.all_but_last(rig, between=False),
        second.all_but_last(rig, between=False, uuid="other", weight=2.0),
    ]
    rig.post(*lasts)
    rig.turn()
    waiting = new(None, *[dep(TaskNumber(number)) for number in (1, 20, 35, 36, 60, 75, 80)], estimate=1e9)
    rig.post(submission(Answer(), "fair", [waiting]))
    rig.turn()
    assert rig.engine._memory.ordering is not None
    assert rig.engine._memory.ordering._places is None
    rig.run()
    assert rig.task(81).waiting == 7
    assert (by_place(rig, 1), by_place(rig, 2)) == (first.order(), second.order())
    assert max(task.tag for task in its(rig, 2)) == 20.0


@pytest.mark.usefixtures("small")
def test_where_order_is_not_fair_places_are_numbers_of_the_flow():
    rig, graph = Rig(rules=Rules(fair=False)), Graph()
    graph.send(rig)
    rig.run()
    assert by_place(rig, 1) == graph.order()
    assert sorted(task.tag for task in its(rig, 1)) == [float(task.number) for task in its(rig, 1)]


@pytest.mark.usefixtures("small")
def test_the_rule_changes_meanwhile():
    rig, graph = Rig(), Graph()
    graph.send(rig)
    while not rig.engine._memory.ordering or not rig.engine._memory.ordering.given:
        rig.turn()
    rig.post(Configure(Answer(), {}, Rules(fair=False)))
    rig.run()
    assert sorted(task.tag for task in its(rig, 1)) == [float(task.number) for task in its(rig, 1)]
    assert by_place(rig, 1) == graph.order()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("after", [1, 5, 12, 20])
def test_what_people_do_meanwhile(after: int):
    rig, graph = Rig(), Graph()
    graph.send(rig, between=False)
    turns(rig, after)
    assert shut(rig, 1)
    assert ask(rig, Hold, "f1").body == {"held": 40, "unchanged": 0}
    assert set(words(rig)) == {"held"}
    ask(rig, Edit, 1, priority=9)
    assert ask(rig, Release, "f1").body == {"released": 40, "unchanged": 0}
    assert by_place(rig, 1) == graph.order()
    rig.slots()
    assert len(rig.running()) == 1
    rig.check()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("after", [1, 5, 12, 20])
def test_a_flow_that_is_cancelled_meanwhile_can_be_retried_or_deleted(after: int):
    for end in ("retry", "delete"):
        rig, graph = Rig(), Graph()
        graph.send(rig, between=False)
        turns(rig, after)
        assert shut(rig, 1)
        assert rig.cancel("f1").body == {"cancelled": 40, "requested": 0, "unchanged": 0}
        assert not ordering(rig)
        rig.check()
        if end == "retry":
            rig.slots()
            assert rig.retry("f1").body == {"retried": 40, "unchanged": 0}
            while rig.running():
                rig.end(rig.running()[0])
            assert set(words(rig)) == {"succeeded"}
        else:
            ask(rig, Delete, "f1")
            assert not rig.check().flows


@pytest.mark.usefixtures("small")
def test_one_that_is_cancelled_is_not_put_in_order_first():
    rig, graph = Rig(), Graph()
    graph.send(rig)
    turns(rig, 3)
    rig.post(Cancel(Answer(), [FlowRef(1)]))
    rig.turn()
    assert not shut(rig, 1)
    rig.slots()
    assert not [number for number in rig.running() if rig.task(number).flow == 1]


@pytest.mark.usefixtures("small")
def test_the_very_turn_in_which_it_ends_and_is_deleted():
    rig, graph = Rig(), Graph()
    graph.send(rig, between=False)
    turns(rig, 8)
    cancelled, deleted = Answer(), Answer()
    rig.post(Cancel(cancelled, [FlowRef(1)]))
    while not cancelled.given:
        rig.turn()
    rig.post(Delete(deleted, [FlowRef(1)]))
    rig.run()
    assert deleted.body == {"deleted": 40}
    assert not ordering(rig)


@pytest.mark.usefixtures("small")
def test_one_that_is_not_complete_can_be_discarded():
    rig, graph = Rig(), Graph()
    rig.submit(graph.tasks()[:CHUNK], "cp", complete=False, critical_path=True)
    assert rig.cancel("f1").body
    assert not rig.check().flows
    assert rig.submit(graph.tasks()[:CHUNK], "cp", critical_path=True).body["state"] == "active"


def test_ageing_takes_all_of_it_for_one_moment():
    rig = Rig(rules=Rules(ageing=10.0))
    rig.submit([new("a", estimate=1.0)], "cp", complete=False, critical_path=True)
    rig.clock.now += 100
    rig.submit([new("b", dep("a"), estimate=1.0), new("c", estimate=9.0)], "cp", offset=1, critical_path=True)
    assert len({task.urgency for task in its(rig, 1)}) == 1
    assert by_place(rig, 1) == ["c", "a", "b"]


def test_without_estimates_by_the_mean_of_the_type():
    rig = Rig()
    rig.slots()
    for task_type, seconds in (("slow", 9.0), ("quick", 1.0)):
        rig.submit([new(type=task_type)], task_type)
        rig.end(rig.running()[0], seconds=seconds)
    rig.submit([new("a", type="quick")], "cp", complete=False, critical_path=True)
    rig.submit([new("b", type="slow"), new("c", estimate=5.0)], "cp", offset=1, critical_path=True)
    assert by_place(rig, 3) == ["b", "c", "a"]


def test_more_dependencies_in_one_request_than_one_turn_looks_at():
    rig = Rig()
    rig.slots()
    tasks = [new(f"t{index}", estimate=1.0) for index in range(60)]
    tasks += [new(f"t{index}", *map(dep, range(60)), estimate=float(index)) for index in range(60, 100)]
    rig.post(submission(Answer(), "cp", tasks, critical_path=True))
    rig.turn()
    assert not rig.running()
    rig.run()
    assert by_place(rig, 1)[60:] == [f"t{index}" for index in reversed(range(60, 100))]
    assert len(rig.running()) == 1
    rig.check()


class Looked:
    """Rows that each turn reads or changes for it."""

    def __init__(self, rig: Rig) -> None:
        self.rows: list[int] = []
        table, store = rig.store.inner.paths, rig.store.inner
        for place, verb in ((table, "chunks"), (table, "estimates"), (table, "edges"), (store, "flow_tasks")):
            self._count(place, verb, 1 if place is store else critical_path._A_ROW)

    def _count(self, place: Any, verb: str, a_row: int) -> None:
        inner = getattr(place, verb)

        def counting(*args: Any) -> Any:
            found = inner(*args)
            self.rows[-1] += len(found) // a_row
            return found

        place.__dict__[verb] = counting


def test_a_large_one_takes_turns_that_are_bounded():
    rig = Rig()
    rig.submit([new("parent", estimate=1.0)], "cp", complete=False, critical_path=True)
    for offset in range(1, 8_000, 1_000):
        part = [new(None, dep("parent"), estimate=float(number)) for number in range(1_000)]
        rig.post(submission(Answer(), "cp", part, offset=offset, complete=offset > 7_000, critical_path=True))
        if offset <= 7_000:
            rig.run()
    looked = Looked(rig)
    while not rig.would_sleep():
        looked.rows.append(0)
        rig.turn()
    assert max(looked.rows) <= TURN_ROWS + 250
    assert len(looked.rows) > 8_000 // TURN_ROWS
    assert {task.tag for task in its(rig, 1)} == set(range(1, 8_002))
    assert not shut(rig, 1)
