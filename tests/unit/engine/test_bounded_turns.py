"""What is larger than a turn goes on turn by turn, is bounded in each, and survives a crash in the middle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers.rig import OnDisk, Rig
from helpers.tasks import Answer, dep, new

from gemflowd.core.turn import CursorKind, Turn
from gemflowd.engine.engine import TURN_ROWS
from gemflowd.model.attempt import Kind, Outcome
from gemflowd.model.facts import AttemptsEnded, Cancel, Retry, TaskNumber
from gemflowd.model.refs import FlowRef, TaskRange
from gemflowd.model.rules import Rules
from gemflowd.model.states import On, State
from gemflowd.model.task import LINKING

CHILDREN = 10_000
#: A turn may do its cursors' rows, start what became ready, and some more.
MOST = TURN_ROWS + TURN_ROWS // 10


class Counted:
    """How many task rows each turn writes."""

    def __init__(self, rig: Rig) -> None:
        self.rows: list[int] = []
        self._rig = rig
        self.watch()

    def watch(self) -> None:
        store, write = self._rig.store.inner, self._rig.store.inner.write

        def counting(turn: Turn) -> Any:
            self.rows[-1] += len(turn.changed) + len(turn.new_tasks) + len(turn.deleted_tasks)
            return write(turn)

        self._rig.store.__dict__["write"] = counting
        assert store is self._rig.store.inner

    def turns(self, until: Callable[[], bool]) -> None:
        while not until():
            self.rows.append(0)
            self._rig.turn()


@pytest.fixture
def rig(tmp_path) -> Any:
    rig = Rig(OnDisk(tmp_path / "gemflow.db"), Rules(retries=0))
    rig.slots()
    rig.submit([new("parent")], complete=False)
    for offset in range(1, CHILDREN, 1_000):
        children = [new(None, dep("parent", On.SUCCESS if n % 2 else On.DONE)) for n in range(1_000)]
        rig.submit(children, offset=offset, complete=offset + 1_000 > CHILDREN)
    yield rig
    rig.store.close()


def counts(rig: Rig) -> dict[State, int]:
    found: dict[State, int] = {}
    for task in rig.contents().tasks.values():
        found[task.state] = found.get(task.state, 0) + 1
    return found


def test_a_parent_of_ten_thousand_is_settled_over_several_turns(rig: Rig):
    counted = Counted(rig)
    rig.executor.end(rig.attempt(1), Outcome.PERMANENT)
    counted.turns(rig.would_sleep)
    assert len(counted.rows) >= CHILDREN // TURN_ROWS
    assert max(counted.rows) <= MOST
    assert counts(rig) == {
        State.FAILED: 1,
        State.SKIPPED: CHILDREN // 2,
        State.RUNNING: 1,
        State.READY: CHILDREN // 2 - 1,
    }
    rig.check()


def test_a_crash_in_the_middle_of_it(rig: Rig):
    rig.executor.end(rig.attempt(1), Outcome.PERMANENT)
    crashes = 0
    while (CursorKind.SETTLE, 1) in rig.contents().cursors or not crashes:
        before = counts(rig).get(State.SKIPPED, 0)
        rig.turn()
        assert counts(rig)[State.SKIPPED] <= before + TURN_ROWS // 2
        rig.crash()
        rig.check()
        crashes += 1
    assert crashes >= 2
    rig.run()
    assert counts(rig) == {State.FAILED: 1, State.SKIPPED: CHILDREN // 2, State.READY: CHILDREN // 2}
    rig.check()


def test_cancel_and_retry_of_a_large_flow(rig: Rig):
    counted = Counted(rig)
    answer = Answer()
    rig.post(Cancel(answer, [FlowRef(1)]))
    counted.turns(lambda: answer.given)
    assert answer.body == {"cancelled": CHILDREN, "requested": 1, "unchanged": 0}
    rig.end(1, Outcome.CANCELLED)
    answer = Answer()
    rig.post(Retry(answer, [FlowRef(1)], downstream=False))
    counted.turns(lambda: answer.given)
    assert answer.body == {"retried": CHILDREN + 1, "unchanged": 0}
    assert max(counted.rows) <= MOST
    assert len(counted.rows) >= 2 * CHILDREN // TURN_ROWS
    assert counts(rig) == {State.RUNNING: 1, State.BLOCKED: CHILDREN}
    rig.check()


def test_others_get_their_turn_meanwhile(rig: Rig):
    rig.submit([new("next", priority=9)], "s2")
    rig.executor.end(rig.attempt(1), Outcome.PERMANENT)
    rig.turn()
    assert (CursorKind.SETTLE, 1) in rig.contents().cursors
    assert rig.running() == [CHILDREN + 2]


class Looked:
    """How many dependencies each turn reads or marks."""

    def __init__(self, rig: Rig) -> None:
        self.rows = [0]
        store = rig.store.inner
        for verb, size in {
            "parents": lambda _, found: len(found),
            "parents_page": lambda _, found: len(found),
            "tasks": lambda _, found: len(found),
            "write": lambda turn, _: len(turn.reopened_edges) + len(turn.closed_edges) + len(turn.changed),
        }.items():
            rig.store.__dict__[verb] = self._counting(getattr(store, verb), size)

    def _counting(self, verb: Callable[..., Any], size: Callable[[Any, Any], int]) -> Callable[..., Any]:
        def counting(*args: Any) -> Any:
            turn = self.rows
            at = size(args[0], None) if verb.__name__ == "write" else 0  # it forgets what it was given
            found = verb(*args)
            turn[-1] += at or size(args[0], found or [])
            return found

        return counting


PARENTS = 6_000


@pytest.fixture
def family(tmp_path) -> Any:
    """A task with very many dependencies that was skipped because of the first; the last one runs."""
    rig = Rig(OnDisk(tmp_path / "gemflow.db"), Rules(retries=0))
    rig.slots(2)
    priorities = {1: 8, PARENTS: 9}
    for offset in range(0, PARENTS, 1_000):
        tasks = [new(priority=priorities.get(offset + place, 5)) for place in range(1, 1_001)]
        rig.submit(tasks, offset=offset, complete=False)
    deps = [dep(TaskNumber(number)) for number in range(1, PARENTS + 1)]
    rig.submit([new("child", *deps)], offset=PARENTS, complete=True)
    rig.end(1, Outcome.PERMANENT)
    assert rig.state(PARENTS + 1) is State.SKIPPED
    yield rig
    rig.store.close()


@pytest.mark.parametrize("whole", [False, True])
def test_a_retry_looks_at_some_of_very_many_dependencies_a_turn(family: Rig, whole: bool):
    child = PARENTS + 1
    if not whole:
        family.retry(1)
    looked, answer = Looked(family), Answer()
    family.post(Retry(answer, [FlowRef(1) if whole else TaskRange(child, child)], downstream=False))
    while not family.would_sleep():
        looked.rows.append(0)
        family.turn()
    assert answer.body["retried"] == 1 + whole
    assert len(looked.rows) > 3
    assert max(looked.rows) <= 8_000, looked.rows
    assert (family.state(child), family.task(child).waiting) == (State.BLOCKED, PARENTS)
    family.check()


def test_it_goes_on_after_a_crash(family: Rig):
    child = PARENTS + 1
    family.retry(1)
    family.post(Retry(Answer(), [TaskRange(child, child)], downstream=False))
    crashes = 0
    while family.state(child) is State.SKIPPED or family.task(child).flags & LINKING:
        family.turn()
        family.crash()
        family.check()
        crashes += 1
    assert crashes >= 3
    assert (family.state(child), family.task(child).waiting) == (State.BLOCKED, PARENTS)


def test_what_a_dependency_makes_impossible_stays_as_it_is(family: Rig):
    child = PARENTS + 1
    assert family.retry(child).body == {"retried": 0, "unchanged": 1}
    assert family.state(child) is State.SKIPPED
    family.check()


@pytest.mark.parametrize(
    ("outcome", "state", "waiting"),
    [(Outcome.DONE, State.BLOCKED, PARENTS - 1), (Outcome.PERMANENT, State.SKIPPED, None)],
)
def test_a_dependency_that_ends_meanwhile_counts(family: Rig, outcome: Outcome, state: State, waiting: int | None):
    child = PARENTS + 1
    family.retry(1)
    family.post(Retry(Answer(), [TaskRange(child, child)], downstream=False))
    while not family.task(child).flags & LINKING:
        family.turn()
    family.end(PARENTS, outcome)
    assert family.state(child) is state
    assert waiting is None or family.task(child).waiting == waiting
    assert not family.task(child).flags & LINKING
    family.check()


def test_ends_in_great_numbers_are_told_in_their_order_and_do_not_pile_up():
    rig, pairs = Rig(), 5_000
    rig.slots(1, Kind.COROUTINE, pairs)
    for start in range(0, pairs, 500):
        tasks = [new(kind=Kind.COROUTINE) for _ in range(500)]
        rig.submit(tasks + [new(None, dep(place)) for place in range(500)], f"s{start}")
    first, *rest = sorted(rig.executor.handed(), key=lambda order: order.task)
    assert len(rest) == pairs - 1
    rig.executor.end(first)
    for at in range(0, pairs, 100):
        rig.post(AttemptsEnded([rig.executor.ended(order) for order in rest[at : at + 100]]))
    most = turns = 0
    while not rig.would_sleep():
        rig.turn()
        turns += 1
        most = max(most, len(rig.engine._memory.cursors))
        assert rig.state(first.task + 500) is not State.BLOCKED
    assert most <= TURN_ROWS
    assert turns >= 2 * pairs // TURN_ROWS, (
        "an end and what it frees are two rows: fewer turns would have been larger ones"
    )
    rig.check()
