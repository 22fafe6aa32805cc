"""Open flows that nobody finishes, and flows that run from their first chunk on."""

from __future__ import annotations

from helpers.rig import Rig
from helpers.tasks import dep, many, new

from gemflowd.model.attempt import Outcome
from gemflowd.model.states import FlowState

# Open flows that nobody finishes


def test_an_open_flow_is_discarded_when_its_time_is_up(rig: Rig):
    rig.submit(many(3), complete=False)
    rig.clock.now += 86_399
    rig.submit(many(1), "s1", offset=3, complete=False)
    rig.clock.jump(86_400)
    rig.clock.now += 86_399
    rig.run()
    assert len(rig.check().tasks) == 4, "its last chunk was the beginning of the day; the wall clock is no matter"
    rig.clock.now += 1
    rig.run()
    assert rig.check().flows == {}


def test_a_streaming_flow_is_closed_with_what_has_come(rig: Rig):
    rig.submit(many(1), complete=False, stream=True)
    rig.end(1)
    assert rig.check().flows[1].state == FlowState.OPEN
    rig.clock.now += 86_401
    rig.run()
    assert rig.check().flows[1].state == FlowState.SUCCEEDED
    assert rig.submit(many(1), offset=1).code == "submission_closed"


# Streaming


def test_a_streaming_flow_runs_from_its_first_chunk(rig: Rig):
    rig.submit([new("a")], complete=False, stream=True)
    assert rig.running() == [1]
    rig.submit([new("b", dep("a"))], offset=1, complete=False, stream=True)
    assert rig.submit([new("a")], offset=2, complete=False, stream=True).code == "duplicate_id"
    rig.end(1)
    assert rig.running() == [2], "what was refused has changed nothing"
    rig.submit([new("c")], offset=2, stream=True)
    rig.end(2)
    rig.end(3)
    assert rig.check().flows[1].state == FlowState.SUCCEEDED


def test_cancel_closes_it(rig: Rig):
    rig.submit(many(2), complete=False, stream=True)
    rig.cancel("f1")
    rig.end(1, Outcome.CANCELLED)
    assert rig.check().flows[1].state == FlowState.CANCELLED
    assert rig.submit(many(1), offset=2, stream=True).code == "submission_closed"
