"""A turn that fails: nothing of it stays, in the store or in memory, and one bad fact does not keep others from being decided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from helpers.rig import Rig
from helpers.tasks import Answer, many, new, submission

from gemflowd.engine import engine as engine_module
from gemflowd.model.attempt import Kind, Outcome
from gemflowd.model.errors import StoreError, StoreFull
from gemflowd.model.facts import AttemptsEnded, Configure, Ping
from gemflowd.model.states import State

VERBS = ["write", "conclude", "commit", "bodies"]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(engine_module, "_FULL_PAUSE", 0.0)
    return Rig()


def fails(rig: Rig, verb: str, error: Exception | None = None) -> None:
    rig.store.fail = (verb, error or RuntimeError("once"))


class Broken:
    """Makes a verb fail as long as the turn has something that `when` recognises."""

    def __init__(self, rig: Rig, when: Any) -> None:
        write = rig.store.inner.write

        def writing(turn: Any) -> None:
            if when(turn):
                raise RuntimeError("always")
            write(turn)

        rig.store.__dict__["write"] = writing


@pytest.mark.parametrize("verb", VERBS)
def test_what_failed_once_is_done_again(rig: Rig, verb: str):
    rig.slots()
    fails(rig, verb)
    answer = rig.submit(many(2))
    assert answer.body["first"] == 1
    assert rig.running() == [1]
    rig.check()


@pytest.mark.parametrize("verb", ["write", "conclude", "commit"])
def test_an_outcome_that_failed_once_is_not_lost(rig: Rig, verb: str):
    rig.slots()
    rig.submit(many(1))
    fails(rig, verb)
    rig.end(1)
    assert rig.state(1) is State.SUCCEEDED
    rig.check()


def test_one_bad_request_does_not_harm_the_others(rig: Rig):
    Broken(rig, lambda turn: any(body == b"bad" for _, body in turn.new_tasks))
    answers = [Answer() for _ in range(3)]
    for index, answer in enumerate(answers):
        rig.post(submission(answer, f"s{index}", [new(body=b"bad" if index == 1 else b"good")]))
    rig.run()
    assert [answer.code for answer in answers] == [None, "internal", None]
    assert [answer.body["first"] for answer in answers[::2]] == [1, 2], "and no number is lost"
    rig.check()


def test_a_result_that_can_not_be_stored_fails_its_task_alone(rig: Rig):
    rig.slots(2)
    rig.submit(many(2))
    Broken(rig, lambda turn: any(value == b"bad" for _, value in turn.results))
    ended = [rig.executor.ended(rig.attempt(1), payload=b"bad"), rig.executor.ended(rig.attempt(2), payload=b"good")]
    rig.post(AttemptsEnded(ended))
    rig.run()
    assert (rig.state(1), rig.state(2)) == (State.FAILED, State.SUCCEEDED)
    rig.check()


def test_an_outcome_that_can_not_be_stored_at_all_ends_the_daemon(rig: Rig):
    rig.slots()
    rig.submit(many(1))
    Broken(rig, lambda turn: turn.attempts)
    rig.executor.end(rig.attempt(1))
    with pytest.raises(StoreError):
        rig.turn()


def test_a_turn_of_nobody_that_fails_ends_the_daemon(rig: Rig):
    rig.submit([new(due=rig.clock.now + 1)])
    rig.clock.now += 1
    fails(rig, "commit")
    with pytest.raises(RuntimeError):
        rig.turn()


def test_settings_of_a_failed_turn_are_not_in_force(rig: Rig):
    Broken(rig, lambda turn: turn.settings)
    answer = Answer()
    rig.post(Configure(answer, {"enabled": False}, replace(rig.rules, enabled=False)))
    rig.run()
    assert answer.code == "internal"
    del rig.store.__dict__["write"]
    rig.slots(2)
    rig.submit(many(2))
    assert len(rig.running()) == 2


def test_slots_that_came_in_a_failed_turn_are_counted_once(rig: Rig):
    """Told of both in one turn, the first of them one by one again: the second must not be known before its time."""
    rig.submit(many(3, kind=Kind.COROUTINE))
    rig.executor.add(Kind.BLOCKING)
    rig.executor.add(Kind.COROUTINE, 2)
    fails(rig, "write")
    rig.run()
    assert rig.running() == [1, 2]
    rig.check()


# A full disk


@pytest.mark.parametrize("verb", ["write", "conclude", "commit"])
def test_on_a_full_disk_submissions_are_refused_and_the_rest_is_kept(rig: Rig, verb: str):
    rig.slots()
    rig.submit(many(1))
    fails(rig, verb, StoreFull("full"))
    answer, ping = Answer(), Answer()
    rig.executor.end(rig.attempt(1))
    rig.post(submission(answer, "s2", many(1)), Ping(ping))
    rig.turn()
    assert answer.code == "disk_full"
    assert ping.body == {}
    assert rig.state(1) is State.RUNNING
    assert not rig.would_sleep(), "the outcome is still to be stored"
    rig.run()
    assert rig.state(1) is State.SUCCEEDED
    assert rig.submit(many(1), "s2").body["first"] == 2
    rig.check()


def test_outcomes_wait_in_order_while_the_disk_is_full(rig: Rig):
    rig.slots(2)
    rig.submit(many(2))
    for number in (1, 2):
        rig.executor.end(rig.attempt(number), Outcome.DONE)
        fails(rig, "commit", StoreFull("full"))
        rig.turn()
    rig.run()
    assert (rig.state(1), rig.state(2)) == (State.SUCCEEDED, State.SUCCEEDED)
    rig.check()


def test_a_database_that_can_not_be_trusted_ends_the_daemon(rig: Rig):
    fails(rig, "commit", StoreError("corrupt"))
    with pytest.raises(StoreError):
        rig.submit(many(1))
