"""`max_errors`: a flow of which too much fails is held."""

from __future__ import annotations

from helpers.rig import Rig, ask, words
from helpers.tasks import many, new

from gemflowd.model.attempt import Kind, Outcome
from gemflowd.model.facts import Release
from gemflowd.store.explain import explain
from gemflowd.store.sql import queries


def fail(rig: Rig, *numbers: int) -> None:
    for number in numbers:
        rig.end(number, Outcome.PERMANENT)


def stopped(rig: Rig) -> list[dict[str, object]]:
    batches = [effects.events for effects in rig.effects if effects.events is not None]
    return [event.fields for batch in batches for event in batch.events if event.topic == "flow.stopped"]


def test_the_rest_is_held_and_a_release_allows_as_many_again(rig: Rig):
    rig.submit(many(8, retries=0), max_errors=2)
    fail(rig, 1)
    assert rig.running() == [2]
    fail(rig, 2)
    assert words(rig) == ["failed"] * 2 + ["held"] * 6
    assert stopped(rig) == [{"flow": 1, "name": None, "failed": 2, "max_errors": 2}]
    (reason,) = explain(rig.store._db, queries(), rig.task(3), {}, ())["reasons"]
    assert "max_errors 2" in reason["message"]
    rig.crash()
    rig.slots()
    assert rig.running() == []
    assert ask(rig, Release, "f1").body["released"] == 6
    fail(rig, 3)
    assert rig.running() == [4]
    fail(rig, 4)
    assert words(rig) == ["failed"] * 4 + ["held"] * 4


def test_what_runs_goes_on_and_what_comes_later_is_held(rig: Rig):
    rig.slots(1, Kind.COROUTINE, 4)
    rig.submit(many(3, kind=Kind.COROUTINE), max_errors=1, stream=True, complete=False)
    fail(rig, 1)
    assert sorted(rig.running()) == [2, 3]
    rig.end(2)
    rig.submit([new(kind=Kind.COROUTINE)], offset=3, stream=True, max_errors=1)
    assert words(rig) == ["failed", "succeeded", "running", "held"]


def test_other_flows_go_on(rig: Rig):
    rig.slots(2)
    rig.submit(many(1), "s1", max_errors=1)
    rig.submit(many(3), "s2", max_errors=1)
    rig.submit(many(3), "s3")
    fail(rig, 2)
    assert words(rig) == ["running", "failed", "running", "held", "running", "ready", "ready"]
