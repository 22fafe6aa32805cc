"""Buckets: reserved, given back, put to sleep by the other side."""

import pytest
from helpers.turns import NOW, make_turn

from gemflowd.core import limits
from gemflowd.core.turn import Turn
from gemflowd.model.attempt import Ended, Kind, Outcome
from gemflowd.model.lane import Bucket, Lane, LaneKey, Queue
from gemflowd.model.rules import Rules

PLAIN = Lane(1, LaneKey("q", None, Kind.COROUTINE))
LIMITED = Lane(2, LaneKey("q", "model", Kind.COROUTINE))


@pytest.fixture
def turn() -> Turn:
    return make_turn(lanes=[PLAIN, LIMITED])


def ended(outcome: Outcome, retry_after: float | None = None) -> Ended:
    return Ended(1, 1, outcome, b"", retry_after=retry_after)


def test_what_is_reserved_is_given_back_whatever_the_outcome(turn: Turn):
    for outcome in Outcome:
        limits.reserve(turn, LIMITED, 1)
        assert turn.buckets["model"].in_flight == 1
        limits.settle(turn, LIMITED, ended(outcome))
        assert turn.buckets["model"].in_flight == 0


def test_a_lane_without_a_bucket_has_no_limit(turn: Turn):
    limits.reserve(turn, PLAIN, 1)
    limits.settle(turn, PLAIN, ended(Outcome.RATE_LIMITED))
    assert turn.buckets == {}
    assert limits.may_start(turn, PLAIN)


@pytest.mark.parametrize(
    ("asked", "slept"),
    [
        (None, limits.DEFAULT_SLEEP),
        (7.5, 7.5),
        (0.0, limits.MIN_SLEEP),
        (-3.0, limits.MIN_SLEEP),
        (1e9, limits.MAX_SLEEP),
    ],
)
def test_the_server_says_how_long_within_reason(turn: Turn, asked: float | None, slept: float):
    limits.reserve(turn, LIMITED, 1)
    limits.settle(turn, LIMITED, ended(Outcome.RATE_LIMITED, asked))
    until = NOW + slept
    assert turn.buckets["model"].asleep_until == until
    turn.steady = until
    assert limits.may_start(turn, LIMITED)
    turn.steady = until - 0.001
    assert not limits.may_start(turn, LIMITED)
    assert [event.fields for event in turn.events] == [{"bucket": "model", "what": "asleep", "until": until}]
    assert turn.changed_buckets == {"model": turn.buckets["model"]}


def test_sleep_is_never_shortened(turn: Turn):
    turn.buckets["model"] = Bucket("model", NOW + 100, in_flight=1)
    limits.settle(turn, LIMITED, ended(Outcome.RATE_LIMITED, 1.0))
    assert turn.buckets["model"].asleep_until == NOW + 100
    assert not turn.changed_buckets
    assert not turn.events


def test_other_outcomes_do_not_put_it_to_sleep(turn: Turn):
    limits.reserve(turn, LIMITED, 1)
    limits.settle(turn, LIMITED, ended(Outcome.ERROR, 50.0))
    assert limits.may_start(turn, LIMITED)


def test_a_closed_lane_may_not_start(turn: Turn):
    assert not limits.may_start(turn, Lane(3, LaneKey("q", None, Kind.BLOCKING, gate=4), open=False))


def test_a_queue_is_paused_or_has_a_limit(turn: Turn):
    queue = turn.queues["q"] = Queue("q", paused=True)
    assert not limits.may_start(turn, PLAIN)
    queue.paused, queue.most = False, 2
    room = limits.Room(turn, turn.lanes)
    assert [room.take(1), room.take(2), room.take(1)] == [True, True, False]
    limits.reserve(turn, PLAIN, 1)
    assert limits.may_start(turn, PLAIN)
    limits.reserve(turn, LIMITED, 1)
    assert not limits.may_start(turn, PLAIN)
    limits.settle(turn, LIMITED, ended(Outcome.DONE))
    assert limits.may_start(turn, PLAIN)


def test_resources_are_shared_out(turn: Turn):
    turn.rules = Rules(resources={"gpu": 1, "disk": 0.3})
    lane = turn.lanes[3] = Lane(3, LaneKey("q", None, Kind.BLOCKING, resources="disk=0.1,gpu=0.5"))
    room = limits.Room(turn, turn.lanes)
    assert [room.take(3), room.take(3), room.take(3), room.take(1)] == [True, True, False, True]
    for _ in range(2):
        assert limits.may_start(turn, lane)
        limits.reserve(turn, lane, 1)
    assert not limits.may_start(turn, lane)
    limits.settle(turn, lane, ended(Outcome.LOST))
    assert limits.may_start(turn, lane), "fractions leave nothing behind"
    unknown = Lane(4, LaneKey("q", None, Kind.BLOCKING, resources="tape=1"))
    assert not limits.may_start(turn, unknown)
