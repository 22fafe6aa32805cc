"""An attempt that ends to wait for tasks that it has added."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from helpers.rig import Rig, words
from helpers.tasks import Answer, dep, grow, new

from gemflowd.model.attempt import Outcome
from gemflowd.model.states import FlowState, State


def waits(rig: Rig, number: int, *tasks: Any) -> None:
    instead = {"note": {"so": "far"}, "bucket": None, "tasks": list(tasks)}
    error = {"class": "Wait", "code": "waits", "message": "waits", "instead": instead}
    rig.end(number, Outcome.AGAIN, payload=msgpack.packb(error))


@pytest.fixture
def grown(rig: Rig) -> Rig:
    """Task 1 runs, 2 waits for it; 3 and 4 were added by 1."""
    rig.slots(2)
    rig.submit([new("asks"), new("after", dep(0))])
    rig.post(grow(1, 1, [new("a"), new("b", dep(0))], Answer(), "step"))
    rig.run()
    return rig


def test_it_goes_on_when_they_have_ended_however_and_its_dependents_wait_for_its_own_end(grown: Rig) -> None:
    rig = grown
    waits(rig, 1, 3, 4)
    assert words(rig)[0] == "blocked"
    rig.end(3, Outcome.PERMANENT)
    assert words(rig) == ["running", "blocked", "failed", "skipped"]
    again = rig.attempt(1)
    assert again.note is not None
    assert again.note[0] == 1
    assert msgpack.unpackb(again.note[1]) == {"so": "far"}
    rig.end(1)
    rig.end(2)
    assert rig.check().flows[1].state == FlowState.FAILED
    assert rig.state(2) is State.SUCCEEDED


def test_what_had_ended_before_is_not_waited_for(grown: Rig) -> None:
    grown.end(3)
    grown.end(4)
    waits(grown, 1, 3, 4)
    assert words(grown) == ["running", "blocked", "succeeded", "succeeded"]
    assert grown.attempt(1).inputs is not None


def test_it_waits_on_after_a_crash_and_holds_no_slot(grown: Rig) -> None:
    waits(grown, 1, 4)
    grown.crash()
    grown.slots()
    assert grown.running() == [3]
    grown.end(3)
    grown.end(4)
    assert grown.running() == [1]


def test_it_may_wait_for_the_same_again(grown: Rig) -> None:
    grown.end(3)
    waits(grown, 1, 3)
    waits(grown, 1, 3, 4)
    assert words(grown)[0] == "blocked"
    grown.end(4)
    assert words(grown)[0] == "running"


def test_cancelled_with_its_flow_while_it_waits(grown: Rig) -> None:
    waits(grown, 1, 3)
    grown.cancel("f1")
    grown.end(3, Outcome.CANCELLED)
    assert words(grown) == ["cancelled"] * 4


def test_it_is_put_back_with_what_it_waited_for(grown: Rig) -> None:
    waits(grown, 1, 3)
    grown.end(3, Outcome.PERMANENT)
    grown.end(1, Outcome.PERMANENT)
    grown.retry("f1")
    assert words(grown) == ["running", "blocked", "running", "blocked"], "failed was an end, too, when it was put back"
    waits(grown, 1, 3)
    assert words(grown)[0] == "blocked"
    for number in (3, 4, 1, 2):
        grown.end(number)
    assert grown.check().flows[1].state == FlowState.SUCCEEDED


@pytest.mark.parametrize(
    "named", [[2], [1], [99], ["a"], [True], [3, 2], list(range(3, 600))], ids=lambda named: f"{named[:2]}"
)
def test_it_can_wait_for_nothing_else(grown: Rig, named: list[Any]) -> None:
    waits(grown, 1, *named)
    assert words(grown)[0] == "failed"
    assert grown.check().attempts[1, 1] is Outcome.PERMANENT


def test_nobody_waits_in_a_circle(rig: Rig) -> None:
    rig.submit([new("asks")])
    rig.post(grow(1, 1, [new("a", dep("asks")), new("b", dep(0))], Answer(), "step"))
    rig.run()
    waits(rig, 1, 3)
    assert words(rig) == ["failed", "skipped", "skipped"]
