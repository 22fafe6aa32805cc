"""The working set of a turn: counts and events of each step, cursors, and how a flow ends."""

from __future__ import annotations

import pytest
from helpers.turns import NOW, hold, make_flow, make_task, make_turn

from gemflowd.core.turn import CursorKind, Turn
from gemflowd.model.states import FlowState, State


def test_each_step_is_counted_twice_and_told_once():
    task = make_task(1, id="a")
    turn = hold(make_turn(), task)
    turn.move(task, State.SCHEDULED, "later")
    assert turn.flows[1].counts == {State.READY: 0, State.SCHEDULED: 1}
    assert turn.counts == {("default", State.READY): -1, ("default", State.SCHEDULED): 1}
    (event,) = turn.events
    assert event.topic == "task.scheduled"
    assert event.fields == {"task": 1, "flow": 1, "id": "a", "type": "echo", "reason": "later"}
    assert turn.changed == {1: task}


def test_a_new_task_is_counted_and_told():
    turn = make_turn()
    turn.flows[1] = make_flow(1)
    task = make_task(1)
    turn.add_tasks([(task, b"body")])
    assert turn.new_tasks == [(task, b"body")]
    assert turn.counts == {("default", State.READY): 1}
    assert [event.topic for event in turn.events] == ["task.ready"]
    assert turn.became_ready == [task]
    assert not turn.changed


def test_neighbours_are_counted_together_and_told_one_by_one():
    tasks = [make_task(1), make_task(2), make_task(3, flow=2), make_task(4)]
    turn = hold(make_turn(), *tasks)
    turn.begin([(task, f"b{task.number % 2}") for task in tasks])
    assert turn.flows[1].counts == {State.READY: 0, State.RUNNING: 3}
    assert turn.flows[2].counts == {State.READY: 0, State.RUNNING: 1}
    assert turn.counts == {("default", State.READY): -4, ("default", State.RUNNING): 4}
    assert [event.fields["task"] for event in turn.events] == [1, 2, 3, 4]
    turn.succeed(tasks[:2])
    assert turn.flows[1].counts == {State.READY: 0, State.RUNNING: 1, State.SUCCEEDED: 2}
    assert turn.settled == turn.succeeded == tasks[:2]


def test_only_what_has_dependents_tells_them():
    lonely, parent = make_task(1), make_task(2, dependents=1)
    turn = hold(make_turn(), lonely, parent)
    turn.move(lonely, State.CANCELLED)
    turn.move(parent, State.CANCELLED)
    assert set(turn.cursors) == {(CursorKind.SETTLE, 2)}
    assert turn.settled == [lonely, parent]
    assert lonely.finished == NOW


def test_work_that_is_begun_again_begins_at_the_start():
    turn = make_turn()
    turn.cursor(CursorKind.CANCEL, 1)
    cursor = turn.cursors[CursorKind.CANCEL, 1]
    cursor.position = 500
    turn.moved_cursors.clear()
    turn.cursor(CursorKind.CANCEL, 1)
    assert turn.cursors[CursorKind.CANCEL, 1] is cursor
    assert cursor.position == 0
    assert turn.moved_cursors == turn.cursors


@pytest.mark.parametrize(
    ("counts", "cancelled", "verdict"),
    [
        ({State.SUCCEEDED: 2}, False, FlowState.SUCCEEDED),
        ({}, False, FlowState.SUCCEEDED),
        ({State.SUCCEEDED: 1, State.SKIPPED: 1}, False, FlowState.SUCCEEDED),
        ({State.SUCCEEDED: 1, State.FAILED: 1, State.CANCELLED: 1}, True, FlowState.FAILED),
        ({State.QUARANTINED: 1}, False, FlowState.FAILED),
        ({State.SUCCEEDED: 1, State.CANCELLED: 1}, False, FlowState.CANCELLED),
        ({State.SUCCEEDED: 2}, True, FlowState.CANCELLED),
    ],
    ids=str,
)
def test_how_a_flow_ends(counts: dict[State, int], cancelled: bool, verdict: FlowState):
    flow = make_flow(1, counts=counts, cancelled=cancelled)
    assert woken(flow).flows[1].state == verdict
    assert flow.finished == NOW


def woken(flow) -> Turn:
    turn = make_turn()
    turn.flows[flow.number] = turn.changed_flows[flow.number] = flow
    turn.wake_flows()
    return turn


@pytest.mark.parametrize("state", [State.BLOCKED, State.SCHEDULED, State.READY, State.HELD, State.RUNNING])
def test_a_flow_with_anything_left_goes_on(state: State):
    flow = make_flow(1, counts={State.FAILED: 3, state: 1})
    assert woken(flow).events == []
    assert flow.state == FlowState.ACTIVE


def test_a_flow_is_reopened_by_a_retry():
    flow = make_flow(1, state=FlowState.FAILED, finished=NOW - 5, counts={State.READY: 1})
    turn = woken(flow)
    assert (flow.state, flow.finished) == (FlowState.ACTIVE, None)
    assert [event.topic for event in turn.events] == ["flow.active"]


def test_a_flow_that_is_being_received_does_not_end():
    flow = make_flow(1, state=FlowState.OPEN, counts={State.CANCELLED: 1})
    assert woken(flow).events == []
    assert flow.state == FlowState.OPEN
