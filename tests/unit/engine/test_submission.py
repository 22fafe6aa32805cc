"""Submissions in the engine: whole or not at all, repeats recognised, chunks in order, dependencies found."""

from __future__ import annotations

import pytest
from helpers.rig import Rig
from helpers.tasks import Answer, dep, many, new, submission

from gemflowd.model.attempt import Outcome
from gemflowd.model.facts import Discard, TaskNumber
from gemflowd.model.refs import NamedTask
from gemflowd.model.states import FlowState, On, State


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_reply_says_which_tasks_they_are(rig: Rig):
    answer = rig.submit(many(3), "s1", name="n")
    assert answer.body == {
        "flow": 1, "submission": "s1", "state": "active", "first": 1, "count": 3, "received": 3, "repeated": False,
    }  # fmt: skip
    assert rig.submit(many(1), "s2").body["first"] == 4
    rig.check()


def test_a_repeat_is_recognised_also_by_the_next_daemon(rig: Rig):
    first = rig.submit(many(2)).body
    assert rig.submit(many(2)).body == {**first, "repeated": True}
    rig.crash()
    assert rig.submit(many(2)).body == {**first, "repeated": True}
    assert len(rig.check().tasks) == 2


def test_a_repeat_in_the_same_turn(rig: Rig):
    answers = Answer(), Answer()
    rig.post(*(submission(answer, "s1", many(2)) for answer in answers))
    rig.turn()
    assert [answer.body["repeated"] for answer in answers] == [False, True]
    assert len(rig.check().tasks) == 2


def test_other_content_under_the_same_uuid_is_refused(rig: Rig):
    rig.submit(many(2))
    assert rig.submit([new("x"), new()]).code == "submission_reused"
    assert rig.submit(many(1)).code == "submission_reused"
    assert rig.submit(many(1), offset=2).code == "submission_closed"
    assert len(rig.check().tasks) == 2


def test_chunks_are_taken_in_order(rig: Rig):
    rig.slots()
    assert rig.submit(many(2), complete=False).body["state"] == "open"
    assert rig.submit(many(2), offset=1, complete=False).code == "submission_offset"
    assert rig.submit(many(2), offset=3).code == "submission_offset"
    assert rig.submit(many(2), "unknown", offset=2).code == "submission_offset"
    assert rig.running() == [], "nothing of it runs before it is complete"
    body = rig.submit(many(3), offset=2).body
    assert (body["first"], body["received"], body["state"]) == (3, 5, "active")
    assert rig.running() == [1]
    rig.check()


def test_a_flow_is_completed_by_an_empty_chunk(rig: Rig):
    rig.slots()
    rig.submit(many(2), complete=False)
    assert rig.submit([], offset=2).body["first"] is None
    assert rig.running() == [1]
    assert rig.submit([], offset=2).body["repeated"]


def test_an_open_flow_waits_over_a_restart(rig: Rig):
    rig.submit(many(2), complete=False)
    rig.crash()
    rig.slots()
    assert rig.running() == []
    rig.submit([], offset=2)
    assert rig.running() == [1]


def test_dependencies_within_over_chunks_and_elsewhere(rig: Rig):
    rig.submit([new("a"), new("b", dep(0))], complete=False)
    rig.submit([new("c", dep("a"), dep("b", On.DONE), dep(1)), new("d")], offset=2)
    rig.submit([new("e", dep(TaskNumber(3)), dep(NamedTask(1, "d"), On.FAILURE))], "s2")
    assert rig.check().edges == [
        (1, 2, On.SUCCESS, False),
        (1, 3, On.SUCCESS, False),
        (2, 3, On.DONE, False),
        (3, 5, On.SUCCESS, False),
        (4, 3, On.SUCCESS, False),
        (4, 5, On.FAILURE, False),
    ]
    assert [rig.task(number).waiting for number in range(1, 6)] == [0, 1, 3, 0, 2]
    assert [rig.task(number).dependents for number in range(1, 6)] == [2, 1, 1, 2, 0]


def test_what_has_ended_before_is_settled_at_once(rig: Rig):
    rig.slots()
    rig.submit(many(1))
    rig.end(1)
    rig.submit([new("good", dep(TaskNumber(1))), new("bad", dep(TaskNumber(1), On.FAILURE)), new("next", dep(1))], "s2")
    assert rig.running() == [2]
    assert rig.state(3) is State.SKIPPED
    assert rig.task(3).reason == "dependency 1 ended succeeded, needed failure"
    assert rig.state(4) is State.SKIPPED
    rig.check()


@pytest.mark.parametrize(
    "target", ["nobody", TaskNumber(99), NamedTask(1, "nobody"), NamedTask(9, "a")], ids=lambda target: str(target)
)
def test_an_unknown_dependency_refuses_all_of_it(rig: Rig, target: object):
    rig.submit([new("a")])
    answer = rig.submit([new(), new("x", dep(target))], "s2")
    assert answer.code == "unknown_dependency"
    found = rig.check()
    assert (set(found.tasks), set(found.flows)) == ({1}, {1})


@pytest.mark.parametrize(
    ("chunk", "code"),
    [
        ([new("c", dep("nobody"))], "unknown_dependency"),
        ([new("a")], "duplicate_id"),
        ([new("c", dep("a"), dep(TaskNumber(1)))], "invalid_value"),
    ],
    ids=["unknown", "duplicate", "twice"],
)
@pytest.mark.parametrize("turns", [1, 2])
def test_a_bad_chunk_takes_the_whole_flow_along(rig: Rig, chunk: list, code: str, turns: int):
    """Also when both chunks come in one turn, and the first is not stored yet."""
    first, second = Answer(), Answer()
    rig.post(submission(first, "s1", [new("a"), new("b")], complete=False))
    if turns == 2:
        rig.turn()
    rig.post(submission(second, "s1", chunk, offset=2))
    rig.run()
    assert first.body["flow"] == 1
    assert second.code == code
    found = rig.check()
    assert (found.tasks, found.flows, found.chunks) == ({}, {}, 0)
    body = rig.submit(many(1)).body
    assert (body["flow"], body["first"]) == (2, 3), "numbers are not given again"


def test_a_task_waits_for_another_once(rig: Rig):
    rig.submit([new("a")])
    answer = rig.submit([new(None, dep(TaskNumber(1)), dep(NamedTask(1, "a"), On.DONE))], "s2")
    assert answer.code == "invalid_value"
    assert len(rig.check().tasks) == 1


def test_nobody_waits_for_a_flow_that_may_still_be_discarded(rig: Rig):
    rig.submit([new("a")], complete=False)
    for target in (TaskNumber(1), NamedTask(1, "a")):
        assert rig.submit([new(None, dep(target))], "s2").code == "unknown_dependency"
    rig.submit([], offset=1)
    assert rig.submit([new(None, dep(TaskNumber(1)))], "s2").code is None


def test_a_delay_counts_and_is_slept_through(rig: Rig):
    rig.slots()
    now = rig.clock.now
    rig.submit([new(due=now + 10.0), new(due=now - 1.0), new(due=now + 5.0)])
    assert rig.running() == [2]
    rig.end(2)
    assert rig.would_sleep()
    assert rig.engine._patience() == 5.0
    rig.clock.now += 5.0
    rig.run()
    assert rig.running() == [3]
    assert rig.task(3).due is None


def test_a_delayed_task_waits_for_both_its_dependency_and_its_time(rig: Rig):
    rig.slots()
    rig.submit([new(), new(None, dep(0), due=rig.clock.now + 10.0)])
    rig.end(1)
    assert rig.state(2) is State.SCHEDULED
    rig.clock.now += 10.0
    rig.run()
    assert rig.running() == [2]


def test_an_empty_flow_has_succeeded(rig: Rig):
    rig.submit([])
    assert rig.check().flows[1].state == FlowState.SUCCEEDED


# Discard


def discard(rig: Rig, uuid: str = "s1") -> Answer:
    answer = Answer()
    rig.post(Discard(answer, uuid))
    return answer


def test_discard_removes_all_and_numbers_stay_used(rig: Rig):
    rig.submit([new("a"), new("b", dep(0))], complete=False)
    answer = discard(rig)
    rig.run()
    assert answer.body == {"flow": 1}
    found = rig.check()
    assert (found.tasks, found.flows, found.edges, found.counters, found.cursors) == ({}, {}, [], {}, {})
    rig.crash()
    assert rig.submit(many(1)).body["first"] == 3


def test_discard_of_what_came_in_the_same_turn(rig: Rig):
    rig.post(submission(Answer(), "s1", many(2), complete=False))
    answer = discard(rig)
    rig.run()
    assert answer.body == {"flow": 1}
    assert rig.check().flows == {}


def test_a_chunk_behind_a_discard_is_refused_and_not_lost(rig: Rig):
    rig.submit(many(2), complete=False)
    discarded, late, again = discard(rig), Answer(), Answer()
    rig.post(submission(late, "s1", many(1), offset=2), submission(again, "s1", many(2), complete=False))
    rig.run()
    assert (discarded.code, late.code, again.code) == (None, "conflict", "conflict")
    assert rig.check().flows == {}


def test_a_large_discard_goes_on_over_turns_and_a_crash(rig: Rig):
    for offset in range(0, 6_000, 2_000):
        rig.submit([new(f"t{offset}"), *many(1_999)], offset=offset, complete=False)
    answer = discard(rig)
    rig.turn()
    assert not answer.given
    assert 4_000 <= len(rig.contents().tasks) < 6_000
    rig.crash()
    rig.run()
    assert rig.check().tasks == {}


def test_discard_of_a_complete_or_unknown_submission_is_refused(rig: Rig):
    rig.submit(many(1))
    for uuid, code in (("s1", "conflict"), ("s2", "not_found")):
        answer = discard(rig, uuid)
        rig.run()
        assert answer.code == code


def test_a_cancelled_open_flow_is_discarded(rig: Rig):
    rig.submit([new("a"), new("b", dep(0))], complete=False)
    rig.cancel("f1")
    assert rig.check().tasks == {}


def test_discard_beside_a_cancel_of_a_part_keeps_the_counts(rig: Rig):
    """The dependents of what was cancelled are removed in the same turn."""
    rig.submit([new("a"), new("b", dep(0)), new("c", dep(1))], complete=False)
    answer = discard(rig)
    rig.cancel(1)
    assert answer.given
    assert rig.check().counters == {}


def test_after_drain_nothing_is_taken_or_started(rig: Rig):
    from gemflowd.model.facts import Drain

    rig.slots(2)
    rig.submit(many(1))
    rig.post(Drain())
    assert rig.submit(many(1), "s2").code == "draining"
    rig.end(1, Outcome.LOST)
    assert rig.running() == []
    rig.crash()
    rig.slots()
    assert rig.running() == [1]
