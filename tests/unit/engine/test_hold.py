"""Holding and releasing tasks and flows, a type that nobody carries out, another priority."""

from __future__ import annotations

import msgpack
from helpers.rig import Rig, ask, words
from helpers.tasks import dep, grow, new

from gemflowd.model import facts
from gemflowd.model.attempt import HandlerInfo, Kind, Outcome

# Hold and release


def test_what_is_held_does_not_start_until_it_is_released(rig: Rig):
    rig.submit([new(), new(None, dep(0)), new(), new(delay=50.0)])
    assert ask(rig, facts.Hold, "1-4").body == {"held": 3, "unchanged": 1}
    rig.end(1)
    assert words(rig) == ["succeeded", "held", "held", "held"]
    rig.crash()
    rig.slots()
    assert rig.running() == []
    assert ask(rig, facts.Release, "1-4").body == {"released": 3, "unchanged": 1}
    assert words(rig) == ["succeeded", "ready", "running", "scheduled"], "what was ready before comes first"


def test_what_waits_for_something_else_waits_on_after_the_release(rig: Rig):
    rig.submit([new(), new(None, dep(0))])
    ask(rig, facts.Hold, 2)
    ask(rig, facts.Release, 2)
    assert words(rig) == ["running", "blocked"]


def test_an_impossible_dependency_skips_what_is_held(rig: Rig):
    rig.submit([new(), new(None, dep(0))])
    ask(rig, facts.Hold, 2)
    rig.end(1, Outcome.PERMANENT)
    assert words(rig) == ["failed", "skipped"]


def test_a_held_flow_holds_what_is_added_and_what_comes_back(rig: Rig):
    rig.submit([new(retries=1), new()])
    assert ask(rig, facts.Hold, "f1").body == {"held": 1, "unchanged": 1}
    rig.post(grow(1, 1, [new()]))
    rig.run()
    rig.end(1, Outcome.ERROR)
    assert words(rig) == ["held", "held", "held"]
    assert ask(rig, facts.Release, "f1").body == {"released": 3, "unchanged": 0}
    assert rig.check().flows[1].on_hold is False


def test_what_its_handler_asks_a_person_only_a_release_of_the_task_itself_answers(rig: Rig):
    rig.submit([new(), new(delay=50.0)])
    said = {"class": "Again", "code": "c", "message": "m", "instead": {"note": None, "hold": "look at it"}}
    rig.end(1, Outcome.AGAIN, payload=msgpack.packb(said))
    assert ask(rig, facts.Release, "f1").body == {"released": 0, "unchanged": 2}
    assert ask(rig, facts.Hold, "f1").body == {"held": 1, "unchanged": 0}
    assert ask(rig, facts.Release, 1).body == {"released": 0, "unchanged": 1}, "the whole flow is held, too"
    assert ask(rig, facts.Release, "f1").body == {"released": 1, "unchanged": 1}
    rig.crash()
    rig.slots()
    assert words(rig) == ["held", "scheduled"]
    assert rig.task(1).reason == "look at it"
    assert ask(rig, facts.Release, 1).body == {"released": 1, "unchanged": 0}
    assert words(rig) == ["running", "scheduled"]


# A type that nobody carries out


def test_without_a_handler_a_task_is_held_until_there_is_one(rig: Rig):
    rig.submit([new(type="old"), new()])
    assert words(rig) == ["running", "ready"], "no catalogue yet: nothing is known"
    rig.crash()
    rig.post(facts.Catalogue([HandlerInfo("echo", Kind.BLOCKING, {})]))
    rig.slots()
    assert words(rig) == ["held", "running"]
    assert rig.task(1).reason == "there is no handler for the type old"
    rig.post(facts.Catalogue([HandlerInfo("echo", Kind.BLOCKING, {}), HandlerInfo("old", Kind.BLOCKING, {})]))
    rig.run()
    assert words(rig) == ["ready", "running"]


# Edit


def test_another_priority_takes_another_place(rig: Rig):
    rig.submit([new(), new(), new(priority=7), new()])
    assert ask(rig, facts.Edit, 4, priority=9).body == {"edited": 1, "unchanged": 0}
    assert ask(rig, facts.Edit, 2, priority=8).body == {"edited": 1, "unchanged": 0}
    started = []
    for _ in range(4):
        started += rig.running()
        rig.end(rig.running()[0])
    assert started == [3, 4, 2, 1], "the first ran already"


def test_of_a_flow_all_that_has_not_ended(rig: Rig):
    rig.submit([new(), new(), new(None, dep(1)), new(priority=9)])
    first = rig.running()[0]
    rig.end(first)
    assert ask(rig, facts.Edit, "f1", priority=9).body == {"edited": 3, "unchanged": 1}
    rig.check()


# Conditions


def test_a_release_of_one_task_does_not_lift_the_hold_of_its_flow(rig: Rig):
    rig.submit([new(), new()])
    ask(rig, facts.Hold, "f1")
    assert ask(rig, facts.Release, 2).body == {"released": 0, "unchanged": 1}
    assert ask(rig, facts.Release, "f1").body["released"] == 1
