"""What becomes of a task: each row of the table "How an attempt ends" (docs/semantics.md), cancel, retry, due times.

Does not cover: settling many dependents turn by turn (tests/unit/engine), waiting times themselves (test_retry).
"""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from helpers.turns import NOW, hold, make_flow, make_task, make_turn

from gemflowd.core import machine
from gemflowd.core.turn import CursorKind, IllegalTransition, Turn
from gemflowd.model.attempt import Ended, Kind, Outcome
from gemflowd.model.lane import Lane, LaneKey
from gemflowd.model.rules import Rules
from gemflowd.model.states import TERMINAL, On, State
from gemflowd.model.task import CONDITIONAL, DUE_WALL, JUDGED, JUDGING, Task, runs_alone

COROUTINE = Lane(2, LaneKey("default", "model", Kind.COROUTINE))


def running(**fields: object) -> Task:
    return make_task(1, State.RUNNING, token=3, slot="b1", started=NOW - 2, **fields)


def end(task: Task, outcome: Outcome, *, rules: Rules | None = None, unclean: bool = False, **fields: Any) -> Turn:
    lanes = [Lane(1, LaneKey("default", None, Kind.BLOCKING)), COROUTINE]
    turn = hold(make_turn(rules=rules, lanes=lanes), task)
    machine.outcome(
        turn, task, Ended(task.number, 3, outcome, **{"payload": b"payload", "seconds": 1.5, **fields}), unclean=unclean
    )
    return turn


# How an attempt ends


def test_done():
    task = running()
    turn = end(task, Outcome.DONE, usage=msgpack.packb({"n": 1}), peak_kb=7)
    assert task.state is State.SUCCEEDED
    assert (task.tries, task.attempts, task.finished) == (0, 1, NOW)
    assert turn.results == [(1, b"payload")]
    (record,) = turn.attempts
    assert (record.number, record.slot, record.started, record.finished) == (1, "b1", NOW - 1.5, NOW)
    assert (record.error, record.usage, record.peak_kb, record.seconds) == (
        None,
        msgpack.packb({"n": 1, "cost_nano": None}),
        7,
        1.5,
    )


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.TIMEOUT])
def test_error_and_timeout_cost_a_try_and_wait(outcome: Outcome):
    task = running(tries=2)
    turn = end(task, outcome)
    assert task.state is State.SCHEDULED
    assert task.tries == 3
    assert task.due is not None
    assert NOW <= task.due <= NOW + 4.0
    assert turn.attempts[0].error == b"payload"
    assert not turn.results


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.TIMEOUT])
@pytest.mark.parametrize(("setting", "own", "tries"), [(3, None, 4), (3, 0, 1), (0, 2, 3), (0, None, 1)])
def test_the_last_try_fails(outcome: Outcome, setting: int, own: int | None, tries: int):
    task = running(tries=tries - 1, retries=own)
    end(task, outcome, rules=Rules(retries=setting))
    assert task.state is State.FAILED
    assert task.tries == tries
    assert task.reason == f"{outcome.word} in try {tries} of {tries}"


def test_the_backoff_is_the_tasks_own_where_it_has_one():
    task = running(backoff=0.0)
    end(task, Outcome.ERROR, rules=Rules(backoff=100.0))
    assert task.due == NOW
    task = running()
    end(task, Outcome.ERROR, rules=Rules(backoff=100.0))
    assert task.due is not None
    assert NOW < task.due <= NOW + 100


def test_permanent_fails_at_once():
    task = running()
    end(task, Outcome.PERMANENT, rules=Rules(retries=9))
    assert task.state is State.FAILED
    assert task.reason == "permanent"


def test_memory_has_a_limit_of_its_own_and_runs_again_alone():
    task = running(lane=2)
    cause = "used 300 MB, its cap is 200 MB"
    turn = end(task, Outcome.MEMORY, rules=Rules(retries=0), cause=cause, peak_kb=300_000)
    assert (task.state, task.tries, task.ooms) == (State.READY, 0, 1)
    assert turn.lanes[task.lane].key.kind is Kind.BLOCKING
    assert task.reason == f"over its memory cap, runs again alone: {cause}"
    assert turn.attempts[0].peak_kb == 300_000
    assert runs_alone(task), "also what is handed to its worker comes alone"
    task = running(ooms=1)
    end(task, Outcome.MEMORY, rules=Rules(retries=9), cause=cause)
    assert task.state is State.FAILED
    assert task.reason == f"over its memory cap 2 times: {cause}"


@pytest.mark.parametrize(
    ("name", "tries", "state"),
    [
        ("Slow", 1, State.FAILED),
        ("slow", 1, State.FAILED),
        ("Other", 1, State.SCHEDULED),
        ("Often", 9, State.SCHEDULED),
    ],
)
def test_retries_by_the_class_or_code_of_the_error(name: str, tries: int, state: State):
    task = running(tries=tries - 1, rules='{"Slow": 0, "slow": 0, "Often": 20}')
    error = {"class": name, "code": "slow" if name == "slow" else "error"}
    end(task, Outcome.ERROR, payload=msgpack.packb(error))
    assert task.state is state


def test_rate_limited_costs_no_try_and_its_limit_sleeps():
    task = running(lane=2)
    turn = end(task, Outcome.RATE_LIMITED, retry_after=30.0)
    assert task.state is State.READY
    assert (task.tries, task.attempts) == (0, 1)
    assert turn.buckets["model"].asleep_until == NOW + 30


@pytest.mark.parametrize(("asked", "waits"), [(30.0, 30.0), (None, 5.0)])
def test_rate_limited_without_a_limit_waits_by_itself(asked: float | None, waits: float):
    task = running()
    end(task, Outcome.RATE_LIMITED, retry_after=asked)
    assert task.state is State.SCHEDULED
    assert task.due == NOW + waits
    assert task.tries == 0


def test_a_crash_has_a_limit_of_its_own():
    task = running()
    end(task, Outcome.CRASH, rules=Rules(crash_limit=2, retries=0), cause="SIGSEGV")
    assert (task.state, task.crashes, task.tries) == (State.READY, 1, 0)
    assert "SIGSEGV" in (task.reason or "")
    task = running(crashes=1)
    end(task, Outcome.CRASH, rules=Rules(crash_limit=2))
    assert task.state is State.QUARANTINED
    assert task.reason == "killed its worker 2 times: unknown cause"


def test_a_suspect_runs_again_alone():
    task = running(lane=2)
    turn = end(task, Outcome.SUSPECT)
    assert task.state is State.READY
    assert (task.tries, task.crashes) == (0, 0)
    key = turn.lanes[task.lane].key
    assert key == LaneKey("default", "model", Kind.BLOCKING)
    assert turn.lanes[task.lane] in turn.new_lanes
    assert turn.buckets["model"].in_flight == -1, "given back to the lane that it ran in"


def test_a_suspect_of_a_gated_flow_gets_a_lane_that_is_open():
    gated = Lane(1, LaneKey("default", None, Kind.COROUTINE, gate=1), open=True)
    task = running()
    turn = hold(make_turn(lanes=[gated]), task)
    machine.outcome(turn, task, Ended(1, 3, Outcome.SUSPECT, b""))
    assert turn.lanes[task.lane].key.gate == 1
    assert turn.lanes[task.lane].open


def test_a_suspect_that_was_alone_already_keeps_its_lane():
    task = running()
    turn = end(task, Outcome.SUSPECT)
    assert task.lane == 1
    assert not turn.new_lanes


def test_lost_costs_nothing():
    task = running(losses=9)
    end(task, Outcome.LOST, rules=Rules(lost_limit=10))
    assert (task.state, task.losses, task.tries, task.attempts) == (State.READY, 9, 0, 1)


def test_unclean_ends_of_the_daemon_are_counted():
    task = running(losses=1)
    end(task, Outcome.LOST, rules=Rules(lost_limit=3), unclean=True)
    assert (task.state, task.losses) == (State.READY, 2)
    task = running(losses=2)
    end(task, Outcome.LOST, rules=Rules(lost_limit=3), unclean=True)
    assert task.state is State.QUARANTINED


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.DONE])
def test_what_a_person_cancelled_ends_cancelled(outcome: Outcome):
    task = running(cancelled=True)
    end(task, outcome)
    assert task.state is State.CANCELLED


def test_done_before_the_cancel_arrived_is_done():
    task = running(cancelled=True)
    end(task, Outcome.DONE)
    assert task.state is State.SUCCEEDED


def test_an_attempt_that_ended_cancelled_ends_the_task():
    task = running()
    end(task, Outcome.CANCELLED)
    assert task.state is State.CANCELLED


# Only the live token counts


@pytest.mark.parametrize("token", [2, 4, 0])
def test_other_tokens_change_nothing(token: int):
    task = running()
    turn = hold(make_turn(), task)
    machine.outcome(turn, task, Ended(1, token, Outcome.DONE, b""))
    assert not machine.take_back(turn, task, token)
    assert turn.refused_outcomes == 2
    assert task == running()
    assert not turn.changed
    assert not turn.results
    assert not turn.attempts


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_outcomes_of_what_does_not_run_change_nothing(state: State):
    task = make_task(1, state, token=3, due=NOW)
    turn = hold(make_turn(), task)
    machine.outcome(turn, task, Ended(1, 3, Outcome.DONE, b""))
    machine.outcome(turn, None, Ended(2, 3, Outcome.DONE, b""))
    assert not machine.take_back(turn, task, 3)
    assert turn.refused_outcomes == 3
    assert task.state is state


def test_taken_back_is_ready_again_without_an_attempt():
    task = running(lane=2)
    turn = hold(make_turn(lanes=[COROUTINE]), task)
    machine.limits.reserve(turn, COROUTINE, 1)
    assert machine.take_back(turn, task, 3)
    assert (task.state, task.attempts, task.token) == (State.READY, 0, 4)
    assert turn.buckets["model"].in_flight == 0
    assert not turn.attempts


def test_taken_back_after_a_cancel_is_cancelled():
    task = running(cancelled=True)
    machine.take_back(hold(make_turn(), task), task, 3)
    assert task.state is State.CANCELLED


def test_each_start_has_a_token_of_its_own():
    task = make_task(1, token=6, lane=2)
    turn = hold(make_turn(lanes=[COROUTINE]), task)
    turn.begin([(task, "c1")])
    assert (task.state, task.token, task.slot, task.started) == (State.RUNNING, 7, "c1", NOW)
    assert turn.started == [task]


# Beginnings, dependencies, due times


@pytest.mark.parametrize(
    ("waiting", "due", "flags", "state"),
    [
        (0, None, 0, State.READY),
        (0, NOW, 0, State.READY),
        (0, NOW + 1, 0, State.SCHEDULED),
        (0, NOW + 1, DUE_WALL, State.READY),
        (0, NOW + 3, DUE_WALL, State.SCHEDULED),
        (1, None, 0, State.BLOCKED),
        (1, NOW + 1, 0, State.BLOCKED),
    ],
)
def test_where_what_is_released_goes_on(waiting: int, due: float | None, flags: int, state: State):
    task = make_task(1, State.HELD, waiting=waiting, due=due, flags=flags)
    turn = hold(make_turn(), task)
    turn.now = NOW + 2  # the wall clock is ahead of the steady one
    assert machine.release(turn, task)
    assert task.state is state


def test_what_has_a_condition_is_judged_before_it_goes_on():
    task = make_task(1, State.HELD, flags=CONDITIONAL)
    turn = hold(make_turn(), task)
    machine.release(turn, task)
    assert task.flags & JUDGING
    assert (CursorKind.JUDGE, 0) in turn.cursors
    task.flags |= JUDGED
    machine.proceed(turn, task)
    assert task.state is State.READY


def settled(parent: State, on: On, **child: object) -> tuple[Task, Turn]:
    ended = make_task(1, parent, id="p")
    task = make_task(2, **{"state": State.BLOCKED, "waiting": 1, **child})
    turn = hold(make_turn(), ended, task)
    machine.settle_dependency(turn, ended, task, on)
    return task, turn


def test_the_last_dependency_makes_it_ready():
    assert settled(State.SUCCEEDED, On.SUCCESS)[0].state is State.READY
    task, _ = settled(State.SUCCEEDED, On.SUCCESS, waiting=2)
    assert (task.state, task.waiting) == (State.BLOCKED, 1)


def test_what_is_due_later_is_scheduled_then():
    task, _ = settled(State.FAILED, On.FAILURE, due=NOW + 5)
    assert (task.state, task.due) == (State.SCHEDULED, NOW + 5)
    task, _ = settled(State.FAILED, On.FAILURE, due=NOW)
    assert (task.state, task.due) == (State.READY, None)


def test_an_impossible_dependency_skips_with_the_reason():
    task, turn = settled(State.FAILED, On.SUCCESS, waiting=2, dependents=1)
    assert task.state is State.SKIPPED
    assert task.reason == "dependency p ended failed, needed success"
    assert (CursorKind.SETTLE, 2) in turn.cursors, "and that goes on downstream"


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_what_has_ended_has_nothing_left_to_settle(state: State):
    task, turn = settled(State.FAILED, On.SUCCESS, state=state, waiting=2)
    assert (task.state, task.waiting) == (state, 2)
    assert not turn.changed


def test_due():
    task = make_task(1, State.SCHEDULED, due=NOW)
    turn = hold(make_turn(), task)
    machine.due(turn, task)
    assert (task.state, task.due) == (State.READY, None)
    machine.due(turn, task)
    assert task.state is State.READY


# People


@pytest.mark.parametrize("state", [State.BLOCKED, State.SCHEDULED, State.READY, State.HELD])
def test_cancel_of_what_waits(state: State):
    task = make_task(1, state, due=NOW)
    turn = hold(make_turn(), task)
    assert machine.cancel(turn, task) == "cancelled"
    assert task.state is State.CANCELLED
    assert machine.cancel(turn, task) == "unchanged"


def test_cancel_of_what_runs_is_a_request():
    task = running()
    turn = hold(make_turn(), task)
    assert machine.cancel(turn, task) == "requested"
    assert machine.cancel(turn, task) == "requested"
    assert (task.state, task.cancelled) == (State.RUNNING, True)
    assert turn.cancel_requests == [(1, 3), (1, 3)]
    assert turn.changed == {1: task}


@pytest.mark.parametrize("state", sorted(TERMINAL - {State.SUCCEEDED}))
def test_retry_counts_anew(state: State):
    task = make_task(
        1,
        state,
        tries=4,
        losses=2,
        crashes=3,
        attempts=9,
        token=12,
        cancelled=True,
        finished=NOW,
        due=NOW + 9,
        waiting=3,
    )
    turn = hold(make_turn(), task)
    assert machine.retry(turn, task, 0)
    assert (task.state, task.tries, task.losses, task.crashes) == (State.READY, 0, 0, 0)
    assert (task.attempts, task.token, task.cancelled, task.finished, task.due) == (9, 12, False, None, None)
    assert turn.dropped_results == [1]


def test_retry_waits_for_dependencies():
    task = make_task(1, State.SKIPPED, waiting=7)
    machine.retry(hold(make_turn(), task), task, 2)
    assert (task.state, task.waiting) == (State.BLOCKED, 2)


@pytest.mark.parametrize("state", sorted({State.SUCCEEDED} | (set(State) - TERMINAL)))
def test_retry_of_what_succeeded_or_has_not_ended_changes_nothing(state: State):
    task = make_task(1, state)
    turn = hold(make_turn(), task)
    assert not machine.retry(turn, task, 0)
    assert task.state is state
    assert not turn.changed


# Fair tags


def test_fair_tags_are_one_share_apart_and_never_in_the_past():
    turn = make_turn()
    turn.flows = {1: make_flow(1, weight=4.0), 2: make_flow(2)}
    tasks = [make_task(number, flow=flow) for number, flow in ((1, 1), (2, 1), (3, 2))]
    for task in tasks:
        machine.give_tag(turn, task, 10.0, 1.0)
    assert [task.tag for task in tasks] == [10.25, 10.5, 11.0]
    late = make_task(4, flow=1)
    machine.give_tag(turn, late, 20.0, 1.0)
    assert late.tag == 20.25
    machine.give_tag(turn, late, 90.0, 1.0)
    assert late.tag == 20.25, "given once"


def test_without_fairness_the_tag_is_the_order_of_submission():
    turn = make_turn(rules=Rules(fair=False))
    turn.flows = {1: make_flow(1, weight=4.0)}
    task = make_task(17)
    machine.give_tag(turn, task, 1_000.0, 1.0)
    assert task.tag == 17.0


# Lanes


def test_a_lane_is_made_once():
    turn = make_turn()
    key = LaneKey("night", None, Kind.BLOCKING)
    lane = machine.lane_for(turn, key)
    assert (lane.number, lane.open) == (2, True)
    assert machine.lane_for(turn, key) is lane
    assert turn.new_lanes == [lane]
    assert not machine.lane_for(turn, LaneKey("night", None, Kind.BLOCKING, gate=5)).open


def test_a_step_that_the_table_does_not_know_is_a_defect():
    task = make_task(1, State.BLOCKED)
    turn = hold(make_turn(), task)
    with pytest.raises(IllegalTransition, match="task 1: blocked -> running"):
        turn.move(task, State.RUNNING)
    with pytest.raises(IllegalTransition, match="can't begin as running"):
        turn.add_tasks([(make_task(2, State.RUNNING), b"")])
