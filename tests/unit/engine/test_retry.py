"""What is put back: whole flows, and what ended or was retried in the same turn."""

from __future__ import annotations

from helpers.rig import Rig, ask, words
from helpers.tasks import Answer, dep, many, new

from gemflowd.model import facts
from gemflowd.model.attempt import Outcome
from gemflowd.model.refs import parse_all


def test_a_flow_whose_first_waits_for_its_second_is_put_back_whole(rig: Rig):
    rig.submit([new("blocker")], "s0")
    rig.submit([new("b", dep(1)), new("a")])
    rig.cancel("f2")
    assert rig.retry("f2").body["retried"] == 2
    assert words(rig) == ["running", "blocked", "ready"]


def test_ended_and_retried_in_one_turn_keeps_its_claims(rig: Rig):
    rig.submit(many(1))
    rig.end(1)
    rig.submit([new(None, dep(facts.TaskNumber(1)))], "s2")
    rig.executor.end(rig.attempt(2), Outcome.PERMANENT)
    rig.post(facts.Retry(Answer(), parse_all([2]), False))
    rig.run()
    assert ask(rig, facts.Delete, "f1").code == "conflict"


def test_parents_that_end_and_are_retried_in_one_turn_are_waited_for(rig: Rig):
    rig.slots(1)
    rig.submit([new("a"), new("b"), new("c", dep(0)), new("d", dep(1))])
    ended = [rig.executor.ended(rig.attempt(number), Outcome.PERMANENT) for number in (1, 2)]
    rig.post(facts.AttemptsEnded(ended), facts.Retry(Answer(), parse_all(["f1"]), False))
    rig.run()
    rig.check()
    for _ in range(4):
        for number in rig.running():
            rig.end(number)
    assert set(words(rig)) == {"succeeded"}
