"""Tasks that add tasks to their flow, and a queue that is full."""

from __future__ import annotations

import msgpack
from helpers.rig import Rig, words
from helpers.tasks import Answer, dep, grow, many, new

from gemflowd.model.attempt import Outcome
from gemflowd.model.rules import Rules
from gemflowd.model.states import FlowState, On

AGAIN = msgpack.packb({"code": "c", "message": "m", "instead": {"note": 1}})

# Growth


def test_a_running_task_adds_tasks_and_its_own_continuation(rig: Rig):
    rig.submit([new("agent")])
    answer = Answer()
    rig.post(grow(1, 1, [new("step"), new("then", dep("agent"), dep(0))], answer))
    rig.run()
    assert (answer.body["flow"], answer.body["first"], answer.body["count"], answer.body["received"]) == (1, 2, 2, 3)
    assert words(rig) == ["running", "ready", "blocked"]
    for number in (1, 2, 3):
        rig.end(number)
    assert rig.check().flows[1].state == FlowState.SUCCEEDED
    assert [rig.task(number).depth for number in (1, 2, 3)] == [0, 1, 1]


def test_only_the_live_attempt_may_and_a_step_counts_once(rig: Rig):
    rig.submit([new("agent")])
    late = Answer()
    rig.post(grow(1, 7, [new()], late))
    rig.run()
    assert late.code == "stale_attempt"
    first, second = Answer(), Answer()
    rig.post(grow(1, 1, [new("a"), new("b")], first, "plan"))
    rig.run()
    rig.crash()
    rig.slots()
    rig.post(grow(1, 2, [new("other")], second, "plan"))
    rig.run()
    assert first.body["repeated"] is False
    assert second.body == {**first.body, "submission": "g1-2-plan", "repeated": True}
    assert len(rig.check().tasks) == 3


def test_growth_is_capped_in_number_and_depth():
    rig = Rig(rules=Rules(max_growth_tasks=2, max_growth_depth=1))
    rig.slots(2)
    rig.submit([new()])
    answers = [Answer() for _ in range(3)]
    rig.post(grow(1, 1, many(3), answers[0], "a"), grow(1, 1, many(1), answers[1], "b"))
    rig.run()
    rig.post(grow(2, 1, many(1), answers[2], "c"))
    rig.run()
    assert [answer.code for answer in answers] == ["growth_limit", None, "growth_limit"]


def test_an_attempt_awaits_what_it_has_added(rig: Rig):
    rig.submit([new("agent"), new("after", dep(0))])
    rig.post(grow(1, 1, [new("a"), new("b", dep(0))], step="plan", awaits=(0, 1)))
    rig.run()
    assert words(rig) == ["running", "blocked", "ready", "blocked"]
    rig.end(1, Outcome.AGAIN, payload=AGAIN)
    assert words(rig) == ["blocked", "blocked", "running", "blocked"]
    rig.end(3, payload=msgpack.packb(1))
    rig.end(4, Outcome.PERMANENT)
    assert words(rig) == ["running", "blocked", "succeeded", "failed"], "however they end"
    inputs = rig.attempt(1).inputs
    assert inputs is not None
    assert msgpack.unpackb(inputs) == {"a": 1}
    rig.end(1)
    rig.end(2)
    rig.check()


def test_what_is_awaited_may_end_first_and_the_daemon_may_die(rig: Rig):
    rig.slots(2)
    rig.submit([new("agent")])
    rig.post(grow(1, 1, [new("a"), new("b")], step="plan", awaits=(0, 1)))
    rig.run()
    rig.end(2)
    rig.crash()
    assert words(rig) == ["blocked", "succeeded", "ready"]
    rig.slots()
    rig.end(3)
    assert words(rig) == ["running", "succeeded", "succeeded"]
    answer = Answer()
    rig.post(grow(1, 2, [new("other")], answer, "plan", awaits=(0,)))
    rig.run()
    assert answer.body["repeated"], "the step was taken, and nothing is awaited anew"
    rig.end(1, Outcome.AGAIN, payload=AGAIN)
    rig.end(1)
    assert rig.check().flows[1].state == FlowState.SUCCEEDED


def test_what_is_awaited_does_not_wait_for_who_awaits_it(rig: Rig):
    rig.submit([new("agent"), new("after", dep(0)), new("ended")])
    for target in ("agent", "after"):
        answer = Answer()
        rig.post(grow(1, 1, [new("a", dep(target, On.DONE))], answer, "plan", awaits=(0,)))
        rig.run()
        assert answer.code == "invalid_value"
    assert len(rig.check().tasks) == 3


def test_a_cancelled_flow_takes_what_awaits_along(rig: Rig):
    rig.slots()
    rig.submit([new("agent")])
    rig.post(grow(1, 1, [new("a")], step="plan", awaits=(0,)))
    rig.run()
    rig.cancel("f1")
    rig.run()
    assert rig.task(1).state.word == "running", "until its attempt ends"
    rig.end(2, Outcome.CANCELLED)
    rig.end(1, Outcome.CANCELLED)
    assert rig.check().flows[1].state == FlowState.CANCELLED


# Backpressure


def test_a_full_queue_takes_no_more_and_opens_again():
    rig = Rig(rules=Rules(max_queued_bytes=10))
    rig.slots()
    rig.submit(many(2))
    assert rig.submit(many(1), "s2").code == "queue_full"
    assert rig.submit(many(2), "s1").body["repeated"], "what is stored is acknowledged again"
    rig.crash()
    assert rig.submit(many(1), "s2").code == "queue_full"
    rig.slots()
    rig.end(1)
    assert rig.submit(many(1), "s2").body["first"] == 3


def test_a_chunk_that_finds_the_queue_full_may_be_sent_again():
    rig = Rig(rules=Rules(max_queued_bytes=10))
    rig.slots()
    rig.submit(many(1), "s1")
    rig.submit(many(1), "s2", complete=False)
    assert rig.submit(many(1), "s2", offset=1).code == "queue_full"
    rig.end(1)
    assert rig.submit(many(1), "s2", offset=1).body["received"] == 2
