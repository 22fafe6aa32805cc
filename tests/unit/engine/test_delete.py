"""What a cancelled flow keeps from starting, and deleting flows."""

from __future__ import annotations

import pytest
from helpers.rig import Rig, ask, words
from helpers.tasks import Answer, dep, many, new

from gemflowd.model import facts
from gemflowd.model.attempt import Outcome
from gemflowd.model.refs import parse_all
from gemflowd.model.states import On

# A cancelled flow


def test_nothing_of_a_cancelled_flow_starts_any_more(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gemflowd.engine.cursors.STEP", 2)
    monkeypatch.setattr("gemflowd.engine.engine.TURN_ROWS", 2)
    rig.submit([new("a"), new("clean", dep(0, On.DONE)), *many(20)])
    answer = Answer()
    rig.post(facts.Cancel(answer, parse_all(["f1"])))
    rig.turn()
    started = len(rig.executor.started)
    rig.end(1, Outcome.CANCELLED)
    assert len(rig.executor.started) == started
    assert set(words(rig)) == {"cancelled"}, "also what waits for the end of something in it"
    assert answer.body == {"cancelled": 21, "requested": 1, "unchanged": 0}


def test_a_retry_is_refused_while_the_cancel_goes_on(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gemflowd.engine.cursors.STEP", 2)
    monkeypatch.setattr("gemflowd.engine.engine.TURN_ROWS", 2)
    rig.submit(many(20))
    again = Answer()
    rig.post(facts.Cancel(Answer(), parse_all(["f1"])), facts.Retry(again, parse_all(["f1"]), False))
    rig.run()
    assert again.code == "conflict"


# Delete


def test_a_flow_that_has_ended_is_deleted_with_all_that_hangs_on_it(rig: Rig):
    rig.submit([new("a"), new("b", dep(0))])
    rig.post(facts.LogLines([(1, 1, 0.0, "log", "x")]))
    assert ask(rig, facts.Delete, "f1").code == "conflict"
    rig.end(1)
    rig.end(2)
    assert ask(rig, facts.Delete, "f1").body == {"deleted": 2}
    found = rig.check()
    assert (found.tasks, found.flows, found.edges, found.results, found.logs, found.chunks) == ({}, {}, [], {}, [], 0)
    assert ask(rig, facts.Delete, "f1").code == "not_found"
    assert rig.submit(many(1), "s1").body["first"] == 3, "its UUID is free again, its numbers are not"


def test_it_is_hidden_at_once_and_goes_on_after_a_crash(rig: Rig):
    rig.submit(many(1_000))
    rig.cancel("f1")
    rig.end(1, Outcome.CANCELLED)
    answer = Answer()
    rig.post(facts.Delete(answer, parse_all(["f1"])))
    rig.turn()
    assert answer.body == {"deleted": 1000}
    assert 0 < len(rig.contents().tasks) < 1_000
    assert rig.cancel(999).code == "not_found"
    rig.crash()
    rig.run()
    assert rig.check().tasks == {}


def test_what_another_flow_waits_for_stays(rig: Rig):
    rig.submit([new("a")])
    rig.submit([new("b", dep(facts.TaskNumber(1), On.DONE)), new()], "s2")
    rig.end(1)
    assert ask(rig, facts.Delete, "f1").code == "conflict"
    rig.end(3)
    rig.end(2, Outcome.PERMANENT)
    assert ask(rig, facts.Delete, 1).body == {"deleted": 1}, "the flow of a single task goes with it"
    assert rig.retry(2).body == {"retried": 0, "unchanged": 1}, "its input is gone"
    rig.check()


def test_what_is_retried_in_the_same_turn_is_not_deleted(rig: Rig):
    rig.submit([new(retries=0)])
    rig.end(1, Outcome.ERROR)
    deleted = Answer()
    rig.post(facts.Retry(Answer(), parse_all([1]), False), facts.Delete(deleted, parse_all(["f1"])))
    rig.run()
    assert deleted.code == "conflict"
    assert rig.running() == [1]
    rig.check()


def test_one_task_of_several_is_not_deleted_alone(rig: Rig):
    rig.submit(many(2))
    assert ask(rig, facts.Delete, 1).code == "conflict"


def test_a_huge_task_is_removed_in_pieces(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gemflowd.engine.cursors.TURN_SHARE", 10)
    monkeypatch.setattr("gemflowd.engine.engine.TURN_ROWS", 10)
    rig.submit([new(), *many(30), new(None, *(dep(place) for place in range(31)))])
    rig.post(facts.LogLines([(1, 1, 0.0, "log", str(line)) for line in range(45)]))
    rig.cancel("f1")
    rig.end(1, Outcome.CANCELLED)
    rig.post(facts.Delete(Answer(), parse_all(["f1"])))
    left = []
    while not rig.would_sleep():
        rig.turn()
        found = rig.contents()
        left.append(len(found.logs) + len(found.edges))
    assert all(before - after <= 10 for before, after in zip([76, *left], left, strict=False))
    assert rig.check().tasks == {}
