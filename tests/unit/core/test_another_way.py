"""`again`: an attempt that asks for another one in another way, and errors that name one for when nothing else is left."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from helpers.turns import NOW, hold, make_task, make_turn

from gemflowd.core import another_way, batched, machine
from gemflowd.core.turn import Turn
from gemflowd.model.attempt import Ended, Kind, Outcome
from gemflowd.model.lane import Lane, LaneKey
from gemflowd.model.rules import Rules
from gemflowd.model.states import State
from gemflowd.model.task import AGAIN, KEYED, NOTED, Hold, Task, agains

FIRST = LaneKey("default", "gemini:a", Kind.COROUTINE, resources="disk=1")


def running(**fields: Any) -> Task:
    return make_task(1, State.RUNNING, token=3, lane=2, slot="c1", started=NOW - 2, **fields)


def end(task: Task, outcome: Outcome, error: dict[str, Any], **fields: Any) -> Turn:
    lanes = [Lane(1, LaneKey("default", None, Kind.BLOCKING)), Lane(2, FIRST, shift=2.5)]
    turn = hold(make_turn(rules=Rules(retries=1), lanes=lanes), task)
    machine.outcome(turn, task, Ended(task.number, 3, outcome, msgpack.packb(error), **fields))
    return turn


def error(code: str = "overloaded", note: Any = "n", bucket: str | None = None) -> dict[str, Any]:
    return {"class": "E", "code": code, "message": "why", "instead": {"note": note, "bucket": bucket}}


def test_again_is_at_once_and_costs_no_try() -> None:
    task = running(tries=1, flags=KEYED)
    turn = end(task, Outcome.AGAIN, error("schema_mismatch", {"answer": "x"}), usage=msgpack.packb({"n": 1}))
    assert (task.state, task.tries, task.attempts, task.lane) == (State.READY, 1, 1, 2)
    assert task.flags == KEYED | NOTED | AGAIN
    assert agains(task) == 1
    assert task.reason == "schema_mismatch: why"
    (record,) = turn.attempts
    assert record.outcome is Outcome.AGAIN
    assert record.usage is not None
    assert msgpack.unpackb(record.usage) == {"n": 1, "cost_nano": None}
    note = another_way.note_of(record.error)
    assert note is not None
    assert msgpack.unpackb(note) == {"answer": "x"}


def test_a_handler_that_never_ends_is_ended() -> None:
    task = running(flags=NOTED + another_way.MOST * AGAIN)
    end(task, Outcome.AGAIN, error())
    assert task.state is State.FAILED
    assert "100 times" in str(task.reason)


def test_again_without_a_note_is_one_more_attempt() -> None:
    task = running()
    turn = end(task, Outcome.AGAIN, {"class": "E", "code": "c", "message": "m"})
    assert task.state is State.READY
    assert another_way.note_of(turn.attempts[0].error) is None


@pytest.mark.parametrize("outcome", [Outcome.AGAIN, Outcome.PARKED])
def test_what_has_started_and_goes_on_does_not_expire(outcome: Outcome) -> None:
    task = running(expires=NOW + 5)
    turn = end(task, outcome, error("mismatch") | {"seconds": 60.0})
    assert task.expires is None
    assert task.number in turn.changed


def test_again_may_be_held_for_a_person() -> None:
    said = error()
    said["instead"]["hold"] = "look at the plan"
    task = running()
    turn = end(task, Outcome.AGAIN, said)
    assert (task.state, task.hold, task.reason) == (State.HELD, Hold.ASKED, "look at the plan")
    assert not machine.hold(turn, task, Hold.PERSON, "its flow is held")
    assert not machine.release(turn, task, whole=True), "that is no answer"
    assert machine.release(turn, task)
    assert task.state is State.READY


def test_what_is_cancelled_does_not_go_on() -> None:
    for outcome in (Outcome.AGAIN, Outcome.PERMANENT):
        task = running(cancelled=True)
        end(task, outcome, error())
        assert task.state is State.CANCELLED


def test_an_error_takes_its_other_way_when_its_tries_are_used_up() -> None:
    task = running()
    turn = end(task, Outcome.ERROR, error(bucket="gemini:b"))
    assert (task.state, task.tries, task.lane) == (State.SCHEDULED, 1, 2)
    assert turn.attempts[0].outcome is Outcome.ERROR
    task = running(tries=1)
    turn = end(task, Outcome.ERROR, error(bucket="gemini:b"))
    assert (task.state, task.tries) == (State.READY, 0), "the other limit begins anew"
    assert turn.attempts[0].outcome is Outcome.AGAIN
    lane = turn.lanes[task.lane]
    assert lane.key == LaneKey("default", "gemini:b", Kind.COROUTINE, resources="disk=1")
    assert lane.shift == 2.5
    assert turn.buckets["gemini:a"].in_flight == -1, "what was reserved is given back where it was taken"
    assert "gemini:b" not in turn.buckets


@pytest.mark.parametrize("outcome", [Outcome.PERMANENT, Outcome.RATE_LIMITED])
def test_what_no_try_helps_takes_it_at_once(outcome: Outcome) -> None:
    task = running()
    turn = end(task, outcome, error(bucket="gemini:b"), retry_after=60.0)
    assert task.state is State.READY
    assert turn.lanes[task.lane].key.bucket == "gemini:b"
    asleep = turn.buckets["gemini:a"].asleep_until > turn.steady
    assert asleep is (outcome is Outcome.RATE_LIMITED), "the limit that is used up sleeps all the same"


def test_a_limit_without_another_way_is_waited_for() -> None:
    task = running()
    turn = end(task, Outcome.RATE_LIMITED, {"class": "E", "code": "instead", "message": "instead"}, retry_after=60.0)
    assert (task.state, task.lane) == (State.READY, 2)
    assert turn.attempts[0].outcome is Outcome.RATE_LIMITED


def test_a_retry_counts_anew_and_keeps_the_note() -> None:
    task = running(flags=NOTED + 3 * AGAIN)
    turn = end(task, Outcome.PERMANENT, {"class": "E", "code": "c", "message": "m"})
    assert task.state is State.FAILED
    machine.retry(turn, task, 0)
    assert task.flags == NOTED
    assert agains(task) == 0


def test_the_log_says_where_an_attempt_broke_off() -> None:
    for outcome, said in ((Outcome.LOST, ["[attempt 1 broke off: lost]"]), (Outcome.ERROR, [])):
        turn = end(running(), outcome, {"class": "E", "code": "c", "message": "m"})
        assert [line[4] for line in turn.logs] == said
        assert turn.log_lines == turn.logs


def test_what_is_parked_waits_without_a_try() -> None:
    task = running(tries=1)
    turn = end(task, Outcome.PARKED, error("overloaded", {"waits": 1}), retry_after=7.0)
    assert (task.state, task.tries, task.lane, task.due) == (State.SCHEDULED, 1, 2, turn.steady + 7.0)
    assert task.flags == NOTED
    assert agains(task) == 0, "it may be said as often as one likes"
    note = another_way.note_of(turn.attempts[0].error)
    assert note is not None
    assert msgpack.unpackb(note) == {"waits": 1}
    for wanted, given in ((None, 0.05), (float("nan"), 0.05), (-1.0, 0.05), (1e9, 30 * 86_400.0)):
        task = running()
        turn = end(task, Outcome.PARKED, error(), retry_after=wanted)
        assert task.due == turn.steady + given


def test_under_another_limit_tries_may_count_on() -> None:
    for outcome in (Outcome.PARKED, Outcome.AGAIN):
        task = running(tries=1)
        said = error(bucket="gemini.batch:a")
        said["instead"]["anew"] = False
        turn = end(task, outcome, said)
        assert turn.lanes[task.lane].key.bucket == "gemini.batch:a"
        assert task.tries == 1


def test_what_joins_a_batch_has_asked_nobody_and_keeps_its_reservation() -> None:
    model, batch = Lane(1, FIRST), Lane(2, LaneKey("default", "gemini.batch:a", Kind.COROUTINE))

    def ended(outcome: Outcome, bucket: str | None = None) -> Ended:
        return Ended(1, 1, outcome, msgpack.packb(error(bucket=bucket)))

    joined = ended(Outcome.PARKED, "gemini.batch:a")
    assert batched.asked_nobody(model, joined)
    assert batched.goes_on(model, joined)
    no_room = ended(Outcome.PARKED)
    assert not batched.asked_nobody(model, no_room)
    assert not batched.goes_on(model, no_room)
    assert not batched.asked_nobody(model, ended(Outcome.DONE))
    for outcome, goes_on in (
        (Outcome.PARKED, True),
        (Outcome.LOST, True),
        (Outcome.DONE, False),
        (Outcome.AGAIN, False),
    ):
        assert batched.asked_nobody(batch, ended(outcome))
        assert batched.goes_on(batch, ended(outcome)) is goes_on


@pytest.mark.parametrize("bucket", [7, ["x"], "", "x" * 401, b"gemini:a"])
@pytest.mark.parametrize("outcome", [Outcome.AGAIN, Outcome.PARKED, Outcome.ERROR, Outcome.RATE_LIMITED])
def test_what_can_be_no_limit_is_refused(bucket: Any, outcome: Outcome) -> None:
    task = running(tries=1)
    turn = end(task, outcome, error(bucket=bucket), retry_after=1.0)
    assert (task.state, task.reason) == (State.FAILED, "permanent")
    (record,) = turn.attempts
    assert record.error is not None
    assert msgpack.unpackb(record.error)["code"] == "bad_bucket"


def test_too_many_in_a_batch_is_waited_out_by_the_task() -> None:
    lanes = [Lane(1, LaneKey("default", "gemini.batch:a", Kind.COROUTINE))]
    task = make_task(1, State.RUNNING, token=3, slot="c1", started=NOW - 2)
    turn = hold(make_turn(lanes=lanes), task)
    machine.outcome(turn, task, Ended(1, 3, Outcome.RATE_LIMITED, b"", retry_after=30.0))
    assert (task.state, task.due) == (State.SCHEDULED, NOW + 30)
    assert turn.buckets["gemini.batch:a"].asleep_until == 0


@pytest.mark.parametrize(
    "usage", [b"\xc1", msgpack.packb([1]), msgpack.packb({1: 2}), msgpack.packb({"x": float("nan")}), b"\xd9"]
)
def test_a_usage_that_nobody_could_read_is_not_stored(usage: bytes) -> None:
    task = running()
    turn = end(task, Outcome.DONE, {}, usage=usage)
    assert task.state is State.SUCCEEDED
    stored = turn.attempts[0].usage
    assert stored is not None
    assert msgpack.unpackb(stored) == {"cost_nano": None}, "a model has answered, and nobody knows what that cost"
    assert [(row.attempts, row.unpriced, row.total) for row in turn.usage.values()] == [(1, 1, 0)]
