"""Cancel and retry, of tasks and flows, small and larger than a turn."""

from __future__ import annotations

import pytest
from helpers.rig import Rig
from helpers.tasks import Answer, dep, many, new, submission

from gemflowd.core.turn import CursorKind
from gemflowd.engine import cursors, steering
from gemflowd.model.attempt import Outcome
from gemflowd.model.facts import Cancel, Retry
from gemflowd.model.refs import FlowRef, TaskRange
from gemflowd.model.rules import Rules
from gemflowd.model.states import FlowState, On, State


@pytest.fixture
def rig() -> Rig:
    rig = Rig(rules=Rules(retries=0))
    rig.slots()
    return rig


def states(rig: Rig) -> dict[int, str]:
    return {number: task.state.word for number, task in sorted(rig.check().tasks.items())}


def test_cancel_says_what_it_did(rig: Rig):
    rig.submit(many(3))
    rig.end(1)
    assert rig.cancel("1-3").body == {"cancelled": 1, "requested": 1, "unchanged": 1}
    assert rig.executor.asked == {(2, 1)}
    rig.end(2, Outcome.CANCELLED)
    assert states(rig) == {1: "succeeded", 2: "cancelled", 3: "cancelled"}
    assert rig.check().flows[1].state == FlowState.CANCELLED


def test_cancel_of_a_flow(rig: Rig):
    rig.submit([new(), new(), new(None, dep(1)), new(due=rig.clock.now + 50)])
    rig.end(1)
    assert rig.cancel("f1").body == {"cancelled": 2, "requested": 1, "unchanged": 1}
    rig.end(2)
    assert states(rig) == {1: "succeeded", 2: "succeeded", 3: "cancelled", 4: "cancelled"}
    assert rig.check().flows[1].state == FlowState.CANCELLED


def test_a_cancel_is_not_forgotten_by_a_crash(rig: Rig):
    rig.submit(many(1))
    rig.cancel(1)
    rig.crash()
    assert states(rig) == {1: "cancelled"}


@pytest.mark.parametrize("ref", ["9", "f9", "f1/nobody", "7-9"])
def test_what_does_not_exist_is_not_found(rig: Rig, ref: str):
    rig.submit([new("a")])
    assert rig.cancel("f1/a", ref).code == "not_found"
    assert rig.retry(ref).code == "not_found"
    assert states(rig) == {1: "running"}, "nothing of a refused request is done"


def test_a_range_has_a_limit(rig: Rig):
    for part in range(11):
        rig.submit(many(1_000), f"s{part}")
    assert rig.cancel("1-10001").code == "invalid_value"


def test_cancel_of_what_came_in_the_same_turn(rig: Rig):
    answer = Answer()
    rig.post(submission(Answer(), "s1", [new("a"), new("b", dep(0))]), Cancel(answer, [FlowRef(1)]))
    rig.run()
    assert answer.body["cancelled"] == 2
    assert states(rig) == {1: "cancelled", 2: "cancelled"}


def test_retry_of_a_failed_task(rig: Rig):
    rig.submit([new(), new(None, dep(0))])
    rig.end(1, Outcome.PERMANENT)
    assert states(rig) == {1: "failed", 2: "skipped"}
    assert rig.retry(1).body == {"retried": 1, "unchanged": 0}
    assert states(rig) == {1: "running", 2: "skipped"}
    assert rig.retry(2).body == {"retried": 1, "unchanged": 0}
    rig.end(1)
    assert states(rig) == {1: "succeeded", 2: "running"}
    assert rig.attempt(2).attempt == 1
    assert len(rig.check().attempts) == 2


def test_retry_downstream_takes_along_what_did_not_succeed(rig: Rig):
    rig.submit([new("a"), new("b", dep(0)), new("c", dep(1)), new("d", dep(0, On.FAILURE)), new("e", dep(3))])
    rig.end(1, Outcome.PERMANENT)
    rig.end(4)
    rig.end(5, Outcome.PERMANENT)
    assert states(rig) == {1: "failed", 2: "skipped", 3: "skipped", 4: "succeeded", 5: "failed"}
    assert rig.retry(1, downstream=True).body == {"retried": 4, "unchanged": 0}
    assert states(rig) == {1: "running", 2: "blocked", 3: "blocked", 4: "succeeded", 5: "ready"}


def test_retry_of_what_is_impossible_changes_nothing(rig: Rig):
    rig.submit([new(), new(None, dep(0, On.FAILURE))])
    rig.end(1)
    assert rig.retry("1-2").body == {"retried": 0, "unchanged": 2}
    assert states(rig) == {1: "succeeded", 2: "skipped"}


def test_retry_of_what_was_impossible_in_the_same_turn(rig: Rig):
    rig.submit([new("a")])
    rig.end(1)
    answer = Answer()
    fact = submission(Answer(), "s2", [new("b", dep(0, On.FAILURE)), new("c")])
    elsewhere = submission(Answer(), "s3", [new("d", dep(_number(1), On.FAILURE))])
    rig.post(fact, elsewhere, Retry(answer, [TaskRange(4, 4)], downstream=False))
    rig.run()
    assert answer.body == {"retried": 0, "unchanged": 1}
    assert rig.state(4) is State.SKIPPED
    rig.check()


def _number(number: int):
    from gemflowd.model.facts import TaskNumber

    return TaskNumber(number)


def test_retry_of_a_flow_until_nothing_more_can_be_put_back(rig: Rig):
    """A task may wait for one with a higher number: it takes a second round."""
    rig.submit([new("late", dep(1)), new("early"), new("good")])
    rig.end(2, Outcome.PERMANENT)
    rig.end(3)
    assert states(rig) == {1: "skipped", 2: "failed", 3: "succeeded"}
    assert rig.retry("f1").body == {"retried": 2, "unchanged": 1}
    assert states(rig) == {1: "blocked", 2: "running", 3: "succeeded"}
    assert rig.check().flows[1].state == FlowState.ACTIVE


def test_a_retry_is_not_done_again_by_the_next_daemon(rig: Rig):
    rig.submit(many(600))
    rig.cancel("f1")
    rig.post(Retry(Answer(), [FlowRef(1)], downstream=False))
    rig.turn()
    while (CursorKind.RETRY, 1) in rig.contents().cursors:
        rig.crash()
        if not rig.would_sleep():
            rig.turn()
    rig.cancel("f1")
    rig.crash()
    rig.run()
    assert set(states(rig).values()) == {"cancelled"}


def test_a_cursor_that_ends_at_once_after_a_restart_is_gone(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cursors, "STEP", 2)
    rig.submit(many(5))
    rig.cancel("f1")
    monkeypatch.setattr("gemflowd.engine.engine.TURN_ROWS", 12)
    rig.end(1, Outcome.CANCELLED)
    rig.post(Retry(Answer(), [FlowRef(1)], downstream=False))
    for _ in range(20):
        if not rig.would_sleep():
            rig.turn()
        rig.crash()
    assert not rig.contents().cursors
    rig.check()


def test_a_crash_in_a_round_of_a_retry_costs_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """The first task could not be put back before the fourth was; that it was is not known to the next daemon."""
    rig.submit([new("late", dep(3)), new(), new(), new("early"), new(), new(), new()])
    for number in range(2, 8):
        rig.end(number, Outcome.PERMANENT if number == 4 else Outcome.DONE)
    monkeypatch.setattr(cursors, "STEP", 2)
    monkeypatch.setattr("gemflowd.engine.engine.TURN_ROWS", 2)
    rig.post(Retry(Answer(), [FlowRef(1)], downstream=False))
    while rig.state(4) is not State.RUNNING:
        rig.turn()
    assert rig.state(1) is State.SKIPPED
    rig.crash()
    rig.run()
    assert rig.state(1) is State.BLOCKED


def test_a_refused_retry_changes_nothing(rig: Rig):
    rig.submit([new("a")])
    rig.end(1, Outcome.PERMANENT)
    rig.submit(many(1), "s2", complete=False)
    assert rig.retry(1, "f2").code == "conflict"
    assert states(rig)[1] == "failed"


@pytest.mark.parametrize("most", ["_MOST_DOWNSTREAM", "_MOST_DOWNSTREAM_EDGES"])
def test_too_much_downstream_is_refused_and_changes_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch, most: str):
    monkeypatch.setattr(steering, most, 2)
    rig.submit([new(), *(new(None, dep(0)) for _ in range(3))])
    rig.end(1, Outcome.PERMANENT)
    assert rig.retry(1, downstream=True).code == "invalid_value"
    assert set(states(rig).values()) == {"failed", "skipped"}


def test_two_who_wait_for_the_same_flow_are_both_told(rig: Rig):
    rig.submit(many(3))
    first, second = Answer(), Answer()
    rig.post(Cancel(first, [FlowRef(1)]), Cancel(second, [FlowRef(1)]))
    rig.run()
    assert first.body["cancelled"] == second.body["cancelled"] == 2


def test_a_request_over_several_flows_is_answered_once_when_all_is_done(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cursors, "STEP", 1)
    monkeypatch.setattr("gemflowd.engine.engine.TURN_ROWS", 3)
    rig.submit(many(2))
    rig.submit(many(4), "s2")
    answer = Answer()
    rig.post(Cancel(answer, [FlowRef(1), FlowRef(2)]))
    rig.turn()
    assert not answer.given
    rig.run()
    assert answer.body == {"cancelled": 5, "requested": 1, "unchanged": 0}


def test_who_waits_is_told_though_a_turn_fails_meanwhile(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cursors, "STEP", 1)
    monkeypatch.setattr("gemflowd.engine.engine.TURN_ROWS", 3)
    rig.submit(many(6))
    answer = Answer()
    rig.post(Cancel(answer, [FlowRef(1)]))
    rig.turn()
    rig.store.fail = ("commit", RuntimeError("once"))
    rig.submit(many(1), "s2")
    assert answer.body == {"cancelled": 5, "requested": 1, "unchanged": 0}


# What several cursors do to each other in one turn


def test_a_retried_task_hears_of_a_parent_that_is_cancelled_in_the_same_turn(rig: Rig):
    rig.submit([new("busy"), new("parent", retries=0)])
    rig.submit([new("child", dep(_number(2)))], "s2")
    rig.cancel("f2")
    rig.cancel(2)
    rig.retry(2)
    rig.post(Retry(Answer(), [FlowRef(2)], downstream=False), Cancel(Answer(), [FlowRef(1)]))
    rig.run()
    rig.end(1, Outcome.CANCELLED)
    # Put back before its parent was cancelled, or found impossible after that: never left waiting.
    assert states(rig) in ({1: "cancelled", 2: "cancelled", 3: end} for end in ("skipped", "cancelled"))


def test_a_retried_task_is_told_once_of_a_parent_that_ended_in_the_same_turn(rig: Rig):
    rig.submit([new("parent"), new("other")])
    rig.submit([new("child", dep(_number(1)), dep(_number(2)))], "s2")
    rig.cancel("f2")
    rig.post(Retry(Answer(), [FlowRef(2)], downstream=False))
    rig.executor.end(rig.attempt(1))
    rig.run()
    assert states(rig) == {1: "succeeded", 2: "running", 3: "blocked"}
    assert rig.task(3).waiting == 1


def test_a_parent_that_ends_again_tells_all_again(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """It was being told how it ended when it and its first child were put back, and it ended once more."""
    monkeypatch.setattr(cursors, "STEP", 2)
    monkeypatch.setattr("gemflowd.engine.engine.TURN_ROWS", 2)
    rig.submit([new("p"), *(new(None, dep(0)) for _ in range(6))], complete=True)
    rig.executor.end(rig.attempt(1), Outcome.PERMANENT)
    rig.turn()
    assert rig.state(2) is State.SKIPPED
    assert rig.state(7) is State.BLOCKED
    one = TaskRange(1, 1)
    rig.post(Retry(Answer(), [one, TaskRange(2, 2)], downstream=False), Cancel(Answer(), [one]))
    rig.run()
    assert set(states(rig).values()) == {"cancelled", "skipped"}
