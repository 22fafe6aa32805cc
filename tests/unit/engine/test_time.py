"""Dates by the wall clock, durations by the steady one, whatever the wall clock does; expiry; restarts."""

from __future__ import annotations

import pytest
from helpers.rig import InMemory, Rig
from helpers.tasks import dep, new

from gemflowd.model.attempt import Outcome
from gemflowd.model.facts import ClockSet
from gemflowd.model.rules import Rules
from gemflowd.model.states import State

HOUR = 3600.0


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_duration_is_not_moved_by_setting_the_clock(jump: float):
    rig = Rig()
    rig.submit([new(delay=60.0), new(expires_in=60.0)])
    rig.clock.jump(jump)
    rig.post(ClockSet())
    rig.run()
    assert [rig.state(1), rig.state(2)] == [State.SCHEDULED, State.READY]
    rig.clock.now += 59
    rig.run()
    assert [rig.state(1), rig.state(2)] == [State.SCHEDULED, State.READY]
    rig.clock.now += 1
    rig.run()
    assert [rig.state(1), rig.state(2)] == [State.READY, State.SKIPPED]
    assert rig.task(2).reason == "expired before it could start"


def test_a_date_comes_and_goes_with_the_clock():
    rig = Rig()
    at = rig.clock.now + 2 * HOUR
    rig.submit([new(due=at), new(expires=at)])
    rig.clock.jump(HOUR)
    rig.post(ClockSet())
    rig.run()
    assert [rig.state(1), rig.state(2)] == [State.SCHEDULED, State.READY]
    assert rig.engine._patience() == HOUR
    rig.clock.jump(HOUR)
    rig.post(ClockSet())
    rig.run()
    assert [rig.state(1), rig.state(2)] == [State.READY, State.SKIPPED]


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_jump_before_a_restart_moves_no_duration_either(jump: float):
    rig = Rig()
    rig.submit([new(delay=60.0)])
    rig.clock.jump(jump)
    rig.submit([new()], "s2")  # a turn that has seen it
    rig.crash()
    rig.clock.now += 59
    rig.run()
    assert rig.state(1) is State.SCHEDULED
    rig.clock.now += 1
    rig.run()
    assert rig.state(1) is State.READY


def test_the_time_of_a_stop_counts():
    rig = Rig()
    rig.submit([new(delay=60.0)])
    rig.stop()
    rig.clock.now += 60
    rig.run()
    assert rig.state(1) is State.READY


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_backoff_and_sleeping_limits_are_durations(jump: float):
    rig = Rig(InMemory(), Rules(backoff=50.0))
    rig.slots(2)
    rig.submit([new(retries=1), new(bucket="model")])
    rig.end(1, Outcome.ERROR)
    rig.end(2, Outcome.RATE_LIMITED, retry_after=50.0)
    rig.clock.jump(jump)
    rig.post(ClockSet())
    rig.run()
    assert rig.running() == []
    rig.clock.now += 50
    rig.run()
    assert sorted(rig.running()) == [1, 2]


def test_whatever_waits_may_expire_but_not_what_runs():
    rig = Rig()
    rig.slots()
    rig.submit(
        [new(expires_in=5.0), new(None, dep(0), expires_in=5.0), new(expires_in=5.0), new(delay=9.0, expires_in=5.0)]
    )
    rig.clock.now += 6
    rig.run()
    assert [rig.state(number).word for number in (1, 2, 3, 4)] == ["running", "skipped", "skipped", "skipped"]
    rig.end(1)
    rig.check()


def test_a_retry_by_a_person_is_no_longer_bound_by_the_expiry():
    rig = Rig()
    rig.submit([new(expires_in=5.0)])
    rig.clock.now += 6
    rig.run()
    assert rig.retry(1).body["retried"] == 1
    assert rig.state(1) is State.READY
