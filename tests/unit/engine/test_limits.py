"""Limits in the engine: who starts when, what a restart keeps, what people see and change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest
from helpers.rig import Rig
from helpers.tasks import Answer, many, new

from gemflowd.core.quota import margin
from gemflowd.model.attempt import Kind, Outcome
from gemflowd.model.facts import AskLimits, AttemptsEnded, ClockSet, Configure, SetLimit
from gemflowd.model.rules import Rules

MODEL: dict[str, Any] = {"kind": Kind.COROUTINE, "bucket": "gemini:a"}
MINUTE = 60 + margin(60)


def rig_with(figures: dict[str, Any] | None = None, slots: int = 100, **limits: dict[str, Any]) -> Rig:
    named = {"gemini:a": figures, **limits} if figures is not None else limits
    rig = Rig(rules=Rules(retries=0, limits=named))
    rig.slots(1, Kind.COROUTINE, slots)
    return rig


def finish(
    rig: Rig,
    number: int,
    outcome: Outcome = Outcome.DONE,
    *,
    usage: dict[str, Any] | None = None,
    retry_after: float | None = None,
    error: dict[str, Any] | None = None,
) -> None:
    """An attempt ends, with what it has used or an error that says more."""
    payload = msgpack.packb({"class": "X", "code": "x", "message": "", **(error or {})})
    ended = rig.executor.ended(rig.attempt(number), outcome, 0.5, payload, retry_after)
    if usage is not None:
        ended.usage = msgpack.packb(usage)
    rig.post(AttemptsEnded([ended]))
    rig.run()


def pass_time(rig: Rig) -> float:
    """Sleep as long as the engine would. Returns for how long."""
    patience = rig.engine._patience()
    assert patience is not None, "the engine sleeps for ever"
    rig.clock.now += patience
    rig.run()
    return patience


def ask(rig: Rig, name: str | None = None, **how: Any) -> dict[str, Any]:
    answer = Answer()
    rig.post(AskLimits(answer, name, **how))
    rig.run()
    return answer.body


def shown(rig: Rig, name: str = "gemini:a") -> dict[str, Any]:
    return ask(rig, name)["limits"][0]


def change(rig: Rig, name: str = "gemini:a", *, reset: bool = False, **figures: Any) -> dict[str, Any]:
    answer = Answer()
    rig.post(SetLimit(answer, name, figures, reset))
    rig.run()
    return answer.body["limits"][0]


def events(rig: Rig) -> list[str]:
    return [
        event.fields["what"]
        for effects in rig.effects
        if effects.events is not None
        for event in effects.events.events
        if event.topic == "limit"
    ]


def test_no_more_start_in_a_window_than_may_and_the_engine_wakes_when_the_next_may():
    rig = rig_with({"rpm": 3})
    rig.submit(many(5, **MODEL))
    assert rig.running() == [1, 2, 3]
    assert pass_time(rig) == pytest.approx(MINUTE)
    assert rig.running() == [1, 2, 3, 4, 5]
    rig.check()


def test_ends_do_not_bring_the_window_forward():
    rig = rig_with({"rpm": 2})
    rig.submit(many(3, **MODEL))
    finish(rig, 1)
    finish(rig, 2)
    assert rig.running() == []
    assert MINUTE <= pass_time(rig) <= MINUTE + 3.1, "they may have been slow to begin"
    assert rig.running() == [3]


def test_who_has_no_limit_and_other_limits_go_on():
    rig = rig_with({"rpm": 1})
    rig.submit([*many(2, **MODEL), new(kind=Kind.COROUTINE), new(kind=Kind.COROUTINE, bucket="gemini:b")])
    assert sorted(rig.running()) == [1, 3, 4]


def test_what_was_sent_outlives_the_daemon():
    rig = rig_with({"rpm": 2, "rpd": 100})
    rig.submit(many(5, **MODEL))
    rig.crash()
    rig.slots(1, Kind.COROUTINE, 100)
    assert rig.running() == [], "nobody knows what became of them: they were sent"
    assert shown(rig)["used"]["rpd"] == 2
    pass_time(rig)
    assert len(rig.running()) == 2


def test_what_was_handed_over_and_comes_back_was_not_sent():
    rig = rig_with({"rpm": 2})
    rig.submit(many(3, **MODEL))
    (name,) = rig.executor.slots
    rig.executor.take_back(name)
    rig.run()
    assert shown(rig)["used"]["rpm"] == 2
    assert rig.running() == [1, 2]


def test_tokens_keep_the_order():
    """A large prompt that has to wait is not overtaken by small ones."""
    rig = rig_with({"tpm": 1000})
    rig.submit([new(body=b"x" * 3600, **MODEL), new(body=b"x" * 3600, **MODEL), new(body=b"x", **MODEL)])
    assert rig.running() == [1]
    pass_time(rig)
    assert rig.running() == [1, 2, 3]


def test_what_was_really_used_makes_room():
    rig = rig_with({"tpm": 1000})
    rig.submit(many(2, body=b"x" * 3600, **MODEL))
    assert rig.running() == [1]
    finish(rig, 1, usage={"prompt_tokens": 90})
    assert rig.running() == [2], "the second is expected to take 90, too"
    assert shown(rig)["used"]["tpm"] == 180


def test_who_waits_first_gives_way_to_who_is_more_urgent_and_to_nobody_when_it_is_gone():
    rig = rig_with({"rpm": 10, "reserve": 0.9})
    rig.submit(many(3, **MODEL))
    assert rig.running() == [1]
    rig.submit(many(2, priority=8, **MODEL), "s2")
    assert rig.running() == [1, 4, 5]
    reasons = ask(rig, "gemini:a", priority=5, size=4)["reasons"]
    assert [reason["code"] for reason in reasons] == ["limit_reached"]
    assert "priorities from 8" in reasons[0]["message"]
    assert ask(rig, "gemini:a", priority=8, size=4)["reasons"] == []


def test_calls_in_flight():
    rig = rig_with({"in_flight": 2})
    rig.submit(many(4, **MODEL))
    assert rig.running() == [1, 2]
    finish(rig, 2)
    assert rig.running() == [1, 3]


def test_a_group_counts_for_all_its_members():
    rig = rig_with({"rpm": 2}, gemini={"rpm": 3, "in_flight": 3})
    rig.submit([*many(3, **MODEL), *many(3, kind=Kind.COROUTINE, bucket="gemini:b")])
    assert sorted(rig.running()) == [1, 2, 4]
    assert shown(rig, "gemini")["in_flight"] == 3
    pass_time(rig)
    assert len(rig.running()) == 3, "there is room in the window, and three are in flight"
    finish(rig, 1)
    assert len(rig.running()) == 3
    rig.check()


def test_the_day_is_used_up_until_it_turns():
    rig = rig_with({"rpd": 1})
    rig.clock.now = datetime(2026, 3, 6, 20, 0, tzinfo=UTC).timestamp()
    rig.submit(many(2, **MODEL))
    finish(rig, 1)
    midnight = datetime(2026, 3, 7, 8, 0, tzinfo=UTC).timestamp()
    (reason,) = ask(rig, "gemini:a", priority=5)["reasons"]
    assert (reason["code"], reason["figure"], reason["until"]) == ("limit_reached", "rpd", midnight)
    assert pass_time(rig) == 12 * 3600
    assert rig.running() == [2]


def test_the_day_turns_by_the_clock_that_people_set():
    rig = rig_with({"rpd": 1})
    rig.clock.now = datetime(2026, 3, 6, 20, 0, tzinfo=UTC).timestamp()
    rig.submit(many(3, **MODEL))
    rig.clock.jump(-36 * 3600)
    rig.post(ClockSet())
    rig.run()
    assert rig.running() == [1, 2], "it is another day"
    assert rig.engine._patience() == 24 * 3600


def test_other_figures_in_the_settings_wake_who_waits():
    rig = rig_with({"rpd": 1})
    rig.submit(many(3, **MODEL))
    assert rig.running() == [1]
    rig.post(Configure(Answer(), {}, Rules(retries=0, limits={"gemini:a": {"rpd": 2}})))
    rig.run()
    assert rig.running() == [1, 2]


def test_a_429_of_the_day_parks_when_it_is_said_again():
    rig = rig_with()
    rig.clock.now = datetime(2026, 3, 6, 20, 0, tzinfo=UTC).timestamp()
    quota = {"code": "daily_quota", "quota": [{"id": "GenerateRequestsPerDayPerProject", "value": "20"}]}
    rig.submit(many(1, **MODEL))
    finish(rig, 1, Outcome.RATE_LIMITED, retry_after=30.0, error=quota)
    assert shown(rig)["figures"]["rpd"] == {"value": 20, "origin": "learned"}
    assert pass_time(rig) == 30.0
    assert rig.running() == [1]
    finish(rig, 1, Outcome.RATE_LIMITED, retry_after=30.0, error=quota)
    assert shown(rig)["parked_until"] == datetime(2026, 3, 7, 8, 0, tzinfo=UTC).timestamp()
    assert events(rig) == ["learned", "asleep", "parked", "asleep"]
    rig.crash()
    rig.slots(1, Kind.COROUTINE, 9)
    while not rig.running():
        pass_time(rig)
    assert rig.clock.now == datetime(2026, 3, 7, 8, 0, tzinfo=UTC).timestamp()
    assert rig.task(1).tries == 0


def test_a_429_teaches_the_figure():
    rig = rig_with()
    rig.submit(many(4, **MODEL))
    error = {"code": "rate_limited", "quota": [{"id": "GenerateRequestsPerMinutePerProjectPerModel", "value": "3"}]}
    finish(rig, 4, Outcome.RATE_LIMITED, retry_after=1.0, error=error)
    pass_time(rig)
    assert rig.running() == [1, 2, 3], "it knows that three were sent in this minute"
    limit = shown(rig)
    assert limit["figures"]["rpm"] == {"value": 3, "origin": "learned"}
    assert limit["cap"] is None
    pass_time(rig)
    assert rig.running() == [1, 2, 3, 4]


def test_a_429_that_names_nothing_cuts_what_is_in_flight_and_backs_off():
    rig = rig_with()
    rig.submit(many(12, **MODEL))
    for number in (1, 2, 3):
        finish(rig, number, Outcome.RATE_LIMITED)
    assert shown(rig)["cap"] == 8
    assert pass_time(rig) == 5.0
    assert rig.running() == [4, 5, 6, 7, 8, 9, 10, 11, 12]
    for number in rig.running():
        finish(rig, number)
    (one, *_) = rig.running()
    finish(rig, one, Outcome.RATE_LIMITED)
    assert pass_time(rig) == 5.0
    finish(rig, rig.running()[0], Outcome.RATE_LIMITED)
    assert pass_time(rig) == 10.0


def overloaded(rig: Rig, number: int) -> None:
    finish(rig, number, Outcome.ERROR, error={"code": "overloaded"})


def test_a_storm_of_errors_opens_the_breaker_and_one_call_tries():
    rig = rig_with({"breaker": 3, "breaker_pause": 20.0}, slots=1)
    rig.submit(many(8, **MODEL))
    for number in (1, 2, 3):
        overloaded(rig, number)
    assert rig.running() == []
    assert shown(rig)["breaker"] == {"state": "open", "failures": 3, "until": rig.clock.now + 20}
    (reason,) = ask(rig, "gemini:a", priority=5)["reasons"]
    assert reason["code"] == "limit_breaker"
    rig.crash()
    rig.slots(1, Kind.COROUTINE, 5)
    assert rig.running() == []
    assert pass_time(rig) == 20.0
    assert rig.running() == [4]
    overloaded(rig, 4)
    assert pass_time(rig) == 40.0
    assert rig.running() == [5]
    finish(rig, 5)
    assert rig.running() == [6, 7, 8]
    assert events(rig) == ["breaker_open", "breaker_closed"]


def test_figures_at_run_time_are_over_the_settings_and_kept():
    rig = rig_with({"rpm": 1, "in_flight": 50})
    rig.submit(many(3, **MODEL))
    assert rig.running() == [1]
    limit = change(rig, rpm=2)
    assert limit["figures"]["rpm"] == {"value": 2, "origin": "run time"}
    assert limit["figures"]["in_flight"] == {"value": 50, "origin": "settings"}
    assert rig.running() == [1, 2], "at once"
    rig.crash()
    rig.slots(1, Kind.COROUTINE, 9)
    assert shown(rig)["figures"]["rpm"]["value"] == 2
    assert change(rig, rpm=None)["figures"]["rpm"] == {"value": 1, "origin": "settings"}
    assert change(rig, "other", rpm=7)["figures"]["rpm"]["value"] == 7
    assert [limit["limit"] for limit in ask(rig)["limits"]] == ["gemini:a", "other"]
    change(rig, "other", reset=True)
    rig.crash()
    assert shown(rig)["figures"]["rpm"]["origin"] == "settings"


def test_reset_wakes_it_up():
    rig = rig_with()
    rig.submit(many(2, **MODEL))
    finish(rig, 1, Outcome.RATE_LIMITED, retry_after=1000.0)
    assert shown(rig)["asleep_until"] is not None
    limit = change(rig, reset=True)
    assert (limit["asleep_until"], limit["cap"], limit["breaker"]["state"]) == (None, None, "closed")
    assert sorted(rig.running()) == [1, 2]


def test_what_nobody_would_miss_is_forgotten_at_a_start():
    rig = rig_with()
    rig.submit(many(1, **MODEL))
    finish(rig, 1)
    change(rig, "given", rpm=7)
    rig.crash()
    assert [limit["limit"] for limit in ask(rig)["limits"]] == ["gemini:a", "given"], "the day is not over"
    rig.clock.now += 2 * 86_400
    rig.crash()
    assert [limit["limit"] for limit in ask(rig)["limits"]] == ["given"]
    assert rig.store._db.execute("SELECT bucket FROM quota").fetchall() == []


def test_a_limit_that_nobody_knows():
    rig = rig_with()
    answer = Answer()
    rig.post(AskLimits(answer, "nobody"))
    rig.run()
    assert answer.code == "not_found"


@pytest.mark.parametrize("verb", ["write", "conclude", "commit"])
def test_a_turn_that_fails_forgets_nothing_of_what_is_in_flight(verb: str):
    rig = rig_with({"tpm": 1_000_000}, gemini={"rpm": 100})
    rig.submit(many(3, **MODEL))
    rig.store.fail = (verb, RuntimeError("once"))
    finish(rig, 1, usage={"prompt_tokens": 500})  # decided, forgotten, and decided again
    assert rig.store.fail is None
    finish(rig, 2, usage={"prompt_tokens": 700})
    assert shown(rig)["used"]["tpm"] == pytest.approx(1200, abs=2)
    finish(rig, 3, Outcome.RATE_LIMITED, retry_after=30.0)
    used = shown(rig)["used"]
    assert used["rpm"] == 2, "what was answered 429 does not count"
    assert used["tpm"] == pytest.approx(1200, abs=2)
    assert shown(rig, "gemini")["used"]["rpm"] == 2
    assert not any(bucket.sent for bucket in rig.engine._memory.buckets.values())
    rig.check()


def test_one_call_at_a_time_tries_whether_a_breaker_may_close_also_after_a_turn_that_fails():
    rig = rig_with({"breaker": 2, "breaker_pause": 5})
    rig.submit(many(5, **MODEL))
    for number in (1, 2):
        finish(rig, number, Outcome.ERROR, error={"code": "overloaded"})
    for number in (3, 4, 5):
        finish(rig, number, Outcome.LOST)
    pass_time(rig)
    assert len(rig.running()) == 1
    rig.store.fail = ("commit", RuntimeError("once"))
    rig.submit(many(1, **MODEL), uuid="later")
    assert rig.store.fail is None
    assert len(rig.running()) == 1


def test_a_common_limit_that_is_taken_away_while_calls_run_keeps_nothing_of_them():
    rig = rig_with({"rpm": 100})
    change(rig, "gemini", rpm=100)
    rig.submit(many(2, **MODEL))
    change(rig, "gemini", reset=True)
    finish(rig, 1)
    finish(rig, 2, Outcome.RATE_LIMITED)
    assert not rig.engine._memory.buckets["gemini"].sent
    assert shown(rig, "gemini")["used"]["rpm"] == 1


def test_another_zone_does_not_forget_what_was_sent_today():
    rig = rig_with({"rpd": 2})
    rig.clock.now = datetime(2026, 3, 6, 20, 0, tzinfo=UTC).timestamp()
    rig.submit(many(3, **MODEL))
    for zone, hour in (("America/Los_Angeles", 8), ("UTC", 0), (None, 8)):
        rig.post(SetLimit(Answer(), "gemini:a", {"zone": zone}, False))
        rig.run()
        assert rig.running() == [1, 2]
        assert shown(rig)["used"]["rpd"] == 2
        (reason,) = ask(rig, "gemini:a", priority=5)["reasons"]
        assert reason["until"] == datetime(2026, 3, 7, hour, 0, tzinfo=UTC).timestamp()
    rig.post(SetLimit(Answer(), "gemini:a", {}, True))
    rig.run()
    assert shown(rig)["used"]["rpd"] == 2
