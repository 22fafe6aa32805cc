"""The cache of model calls in the engine: who uses an answer, who asks, who waits, what is stored and for how long, and what a
failure leaves of it."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from helpers.rig import Rig
from helpers.tasks import Answer, many

from gemflowd.engine import cache as cache_module
from gemflowd.engine import engine as engine_module
from gemflowd.engine.cache import ROW_COST
from gemflowd.model.attempt import Kind, Outcome
from gemflowd.model.cache import MODES
from gemflowd.model.errors import StoreFull
from gemflowd.model.facts import AskLimits, AttemptsEnded, BeginCall, ClearCache, Configure, LeaveCall, Ping, Speaker
from gemflowd.model.prices import Price, Prices, Rate
from gemflowd.model.rules import Rules

A, B = b"a" * 32, b"b" * 32
USAGE = {"prompt_tokens": 10, "cached_tokens": 4, "output_tokens": 3, "thought_tokens": 2, "total_tokens": 15}
DAY = 86_400.0


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_module, "_FULL_PAUSE", 0.0)
    rig = started()
    yield rig
    check(rig)
    rig.store.close()


def started(tasks: int = 8, rules: Rules | None = None) -> Rig:
    """So many tasks that run side by side."""
    rig = Rig(rules=rules)
    rig.slots(1, Kind.COROUTINE, tasks)
    rig.submit(many(tasks, kind=Kind.COROUTINE))
    assert len(rig.running()) == tasks
    return rig


def check(rig: Rig) -> None:
    """The figures are what is there, in the engine's memory and in the store; nobody who has ended has a part in a call."""
    run = rig.store.inner._db.execute
    figures, calls = rig.engine._memory.cache, rig.engine._memory.calls
    there = list(run("SELECT size, length(value), length(usage) FROM cache WHERE number > ?", (figures.cleared,)))
    assert all(size == value + (usage or 0) + ROW_COST for size, value, usage in there)
    assert (figures.entries, figures.bytes) == (len(there), sum(size for size, *_ in there))
    assert (run("SELECT value FROM meta WHERE key = 'cache_bytes'").get or 0) == figures.bytes
    assert {task for task, _ in calls.attempts} <= set(rig.running())
    assert {call.leader for call in calls.shared.values()} <= set(calls.attempts)
    rig.check()


def post_begin(rig: Rig, task: int, key: bytes = A, mode: str = "on", model: str = "m") -> Answer:
    answer = Answer()
    rig.post(BeginCall(answer, key, model, MODES[mode], Speaker(task, rig.attempt(task).token)))
    return answer


def begin(rig: Rig, task: int, *args: Any) -> Answer:
    answer = post_begin(rig, task, *args)
    rig.run()
    return answer


def end(rig: Rig, task: int, outcome: Outcome = Outcome.DONE, usage: Any = USAGE, **how: Any) -> None:
    ended = rig.executor.ended(rig.attempt(task), outcome, **how)
    ended.usage = None if usage is None else msgpack.packb(usage)
    rig.post(AttemptsEnded([ended]))
    rig.run()


def values(rig: Rig) -> dict[bytes, bytes]:
    cleared = rig.engine._memory.cache.cleared
    return dict(rig.store.inner._db.execute("SELECT key, value FROM cache WHERE number > ?", (cleared,)))


def counts(rig: Rig) -> list[tuple[Any, ...]]:
    return list(rig.store.inner._db.execute("SELECT * FROM cache_count ORDER BY model"))


def clear(rig: Rig) -> dict[str, Any]:
    answer = Answer()
    rig.post(ClearCache(answer))
    rig.run()
    return answer.body


def test_an_answer_is_stored_with_the_outcome_and_used_from_then_on(rig: Rig) -> None:
    assert begin(rig, 1).body == {"lead": True}
    assert values(rig) == {}
    end(rig, 1, payload=b"answer")
    assert values(rig) == {A: b"answer"}
    assert begin(rig, 2).body == {"entry": 1}
    assert begin(rig, 3, B).body == {"lead": True}, "another request"
    rig.crash()
    rig.slots(1, Kind.COROUTINE, 8)
    assert begin(rig, 2).body == {"entry": 1}, "it outlives the daemon"


def test_an_answer_that_is_there_already_waits_for_no_other_one(rig: Rig) -> None:
    begin(rig, 1, A, "refresh")
    assert begin(rig, 2, A, "replace").body == {"lead": True}
    end(rig, 2, payload=b"of a batch")
    assert values(rig) == {A: b"of a batch"}
    end(rig, 1, payload=b"later")
    assert values(rig) == {A: b"later"}
    begin(rig, 3, A, "replace")
    end(rig, 3, payload=b"of another batch")
    assert values(rig) == {A: b"of another batch"}
    check(rig)


def test_a_use_counts_when_its_task_has_succeeded(rig: Rig) -> None:
    begin(rig, 1)
    end(rig, 1)
    for task, outcome in ((2, Outcome.DONE), (3, Outcome.DONE), (4, Outcome.PERMANENT)):
        begin(rig, task)
        end(rig, task, outcome, usage={"cached": True})
    assert counts(rig) == [("m", 2, 1, 20, 8, 6, 4, 0, 2)]
    assert rig.store.inner._db.execute("SELECT hits FROM cache").get == 2


def test_what_is_no_number_of_tokens_counts_as_none(rig: Rig) -> None:
    begin(rig, 1)
    end(rig, 1, usage={"prompt_tokens": -1, "output_tokens": "7", "thought_tokens": True, "cached_tokens": 1 << 70 - 8})
    begin(rig, 2)
    end(rig, 2)
    begin(rig, 3, B)
    end(rig, 3, usage=[1])
    begin(rig, 4, B)
    end(rig, 4)
    assert counts(rig) == [("m", 2, 2, 0, 0, 0, 0, 0, 2)]


def test_what_a_use_has_saved_is_known_in_money_too(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = Prices({"m": Price(Rate(input=2_000_000, cached=1_000_000, output=10_000_000))})
    rig = started(rules=Rules(prices=prices))
    begin(rig, 1)
    end(rig, 1)
    begin(rig, 2)
    end(rig, 2, usage={"cached": True})
    assert counts(rig) == [("m", 1, 1, 10, 4, 3, 2, 6 * 2 + 4 * 1 + 5 * 10, 0)]
    paid = rig.store.inner._db.execute("SELECT attempts, total FROM usage").fetchall()
    assert paid == [(1, 15)], "a use of a stored answer is none of a model"
    rig.store.close()


def test_of_identical_calls_one_is_made(rig: Rig) -> None:
    first, *others = [post_begin(rig, task) for task in (1, 2, 3)]
    rig.run()
    assert first.body == {"lead": True}
    assert not any(other.given for other in others)
    end(rig, 1, payload=b"answer")
    assert [other.body for other in others] == [{"value": b"answer"}] * 2
    end(rig, 2)
    end(rig, 3)
    assert counts(rig) == [("m", 2, 1, 20, 8, 6, 4, 0, 2)]


@pytest.mark.parametrize("how", ["error", "permanent", "timeout", "lost", "worker", "cancelled"])
def test_when_whoever_asks_has_no_answer_the_next_one_asks(rig: Rig, how: str) -> None:
    lonely = rig.slots(1, Kind.COROUTINE, 1)[0]
    rig.submit(many(1, kind=Kind.COROUTINE), "alone")
    assert rig.attempt(9).slot == lonely
    begin(rig, 9)
    second, third = begin(rig, 2), begin(rig, 3)
    if how == "worker":
        rig.executor.kill(lonely)
        rig.run()
    elif how == "cancelled":
        rig.cancel(9)
        end(rig, 9, Outcome.CANCELLED)
    else:
        end(rig, 9, Outcome[how.upper()])
    assert second.body == {"lead": True}
    assert not third.given
    assert values(rig) == {}
    end(rig, 2, payload=b"late")
    assert third.body == {"value": b"late"}


def test_who_waits_may_leave(rig: Rig) -> None:
    begin(rig, 1)
    second, third = begin(rig, 2), begin(rig, 3)
    rig.cancel(2)
    end(rig, 2, Outcome.CANCELLED)
    assert second.code == "stale_attempt", "nobody is kept waiting for a reply"
    end(rig, 1, Outcome.PERMANENT)
    assert third.body == {"lead": True}


def test_who_waits_for_a_call_that_meets_a_quota_does_not_meet_it_too(rig: Rig) -> None:
    begin(rig, 1)
    others = [begin(rig, task) for task in (2, 3)]
    end(rig, 1, Outcome.RATE_LIMITED, retry_after=7.0)
    assert [other.body for other in others] == [{"wait": 7.0}] * 2
    assert begin(rig, 4).body == {"lead": True}


@pytest.mark.parametrize("how", [Outcome.RATE_LIMITED, Outcome.TIMEOUT, Outcome.CANCELLED])
def test_who_has_only_waited_has_sent_nothing(how: Outcome) -> None:
    rig = Rig(rules=Rules(limits={"b": {"rpm": 50, "rpd": 50}}))
    rig.slots(1, Kind.COROUTINE, 6)
    rig.submit(many(6, kind=Kind.COROUTINE, bucket="b"))
    for task in range(1, 6):
        post_begin(rig, task)
    rig.run()
    quota = {"class": "X", "code": "rate_limited", "quota": [{"id": "RequestsPerMinute", "value": "50"}]}
    if how is Outcome.RATE_LIMITED:
        end(rig, 1, how, retry_after=7.0, payload=msgpack.packb(quota))
    for task in range(2, 6):
        end(rig, task, how, retry_after=30.0, payload=msgpack.packb({"class": "X", "code": "timeout"}))
    if how is not Outcome.RATE_LIMITED:
        end(rig, 1)
    limit = ask_limits(rig)
    left = 1 if how is Outcome.RATE_LIMITED else 2
    assert (limit["cap"], limit["used"]["rpm"], limit["used"]["rpd"]) == (None, left, left)
    assert limit["breaker"]["failures"] == 0
    if how is Outcome.RATE_LIMITED:
        assert limit["asleep_until"] == rig.clock.wall() + 7.0
    check(rig)


def ask_limits(rig: Rig) -> dict[str, Any]:
    answer = Answer()
    rig.post(AskLimits(answer, "b"))
    rig.run()
    found: dict[str, Any] = answer.body["limits"][0]
    return found


def test_who_was_told_of_a_quota_and_asks_all_the_same_has_asked() -> None:
    rig = Rig(rules=Rules(limits={"b": {"rpm": 50}}))
    rig.slots(1, Kind.COROUTINE, 6)
    rig.submit(many(2, kind=Kind.COROUTINE, bucket="b"))
    begin(rig, 1)
    begin(rig, 2)
    end(rig, 1, Outcome.RATE_LIMITED, retry_after=7.0)
    assert begin(rig, 2).body == {"lead": True}
    end(rig, 2)
    assert ask_limits(rig)["used"]["rpm"] == 1
    check(rig)


def test_an_answer_that_is_not_for_others(rig: Rig) -> None:
    begin(rig, 1)
    second = begin(rig, 2)
    left = Answer()
    rig.post(LeaveCall(left, Speaker(1, rig.attempt(1).token)))
    rig.run()
    assert left.body == {}
    assert second.body == {"lead": True}
    end(rig, 1)
    assert values(rig) == {}
    end(rig, 2, payload=b"whole")
    assert values(rig) == {A: b"whole"}
    assert counts(rig)[0][:3] == ("m", 0, 2)


def test_read_uses_and_stores_nothing(rig: Rig) -> None:
    assert begin(rig, 1, A, "read").body == {"lead": True}
    second = begin(rig, 2, A, "read")
    end(rig, 1, payload=b"one")
    assert second.body == {"value": b"one"}, "it is shared all the same"
    assert values(rig) == {}
    begin(rig, 3, A, "read")
    fourth = begin(rig, 4, A, "on")
    end(rig, 3, payload=b"two")
    assert fourth.body == {"value": b"two"}
    assert values(rig) == {A: b"two"}, "one of those whom it served wants it stored"
    assert begin(rig, 5, A, "read").body == {"entry": 1}


def test_write_asks_always_and_keeps_what_there_is(rig: Rig) -> None:
    begin(rig, 1)
    assert begin(rig, 2, A, "write").body == {"lead": True}, "whatever is in flight"
    third = begin(rig, 3)
    end(rig, 2, payload=b"two")
    assert not third.given, "it waits for the first"
    end(rig, 1, payload=b"one")
    assert third.body == {"value": b"one"}
    assert values(rig) == {A: b"two"}, "the first that was stored stays"
    assert begin(rig, 4, A, "write").body == {"lead": True}


def test_refresh_asks_anew_once_and_replaces(rig: Rig) -> None:
    begin(rig, 1)
    end(rig, 1, payload=b"old")
    assert begin(rig, 2, A, "refresh").body == {"lead": True}
    third = begin(rig, 3, A, "refresh")
    assert begin(rig, 4).body == {"entry": 1}, "meanwhile the old one serves"
    end(rig, 2, payload=b"newer")
    assert third.body == {"value": b"newer"}
    assert values(rig) == {A: b"newer"}
    assert begin(rig, 5).body == {"entry": 2}


def test_an_attempt_has_one_call_at_a_time(rig: Rig) -> None:
    begin(rig, 1)
    begin(rig, 2, B)
    assert begin(rig, 1, B).code == "conflict"
    assert begin(rig, 2, A).code == "conflict"


def test_only_the_live_attempt_speaks(rig: Rig) -> None:
    answer = Answer()
    stale = Speaker(1, rig.attempt(1).token + 1)
    rig.post(BeginCall(answer, A, "m", MODES["on"], stale))
    left = Answer()
    rig.post(LeaveCall(left, Speaker(999, 1)))
    rig.run()
    assert (answer.code, left.code) == ("stale_attempt", "stale_attempt")


def test_after_a_restart_nobody_waits_for_what_was_in_flight(rig: Rig) -> None:
    begin(rig, 1)
    second = begin(rig, 2)
    rig.crash()
    assert not second.given
    rig.slots(1, Kind.COROUTINE, 8)
    assert begin(rig, 2).body == {"lead": True}


def test_clear_forgets_at_once_and_removes_in_steps(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_STEP", 2)
    for task, name in ((1, b"a"), (2, b"b"), (3, b"c")):
        begin(rig, task, name * 32)
        end(rig, task, payload=b"x", usage=None)
    answer = Answer()
    rig.post(ClearCache(answer))
    again = post_begin(rig, 4)
    rig.turn()
    assert answer.body == {"entries": 3, "bytes": 3 * (ROW_COST + 1)}
    assert again.body == {"lead": True}
    end(rig, 4, payload=b"new")
    assert values(rig) == {A: b"new"}
    assert rig.store.inner._db.execute("SELECT count(*) FROM cache").get == 1
    assert clear(rig)["entries"] == 1
    assert clear(rig)["entries"] == 0
    rig.crash()
    rig.slots(1, Kind.COROUTINE, 8)
    begin(rig, 5)
    end(rig, 5, payload=b"newest")
    assert values(rig) == {A: b"newest"}, "numbers are not given twice, also when all are gone"


def test_what_was_used_longest_ago_goes_for_what_is_new() -> None:
    size = ROW_COST + 1000
    rig = started(30, Rules(max_cache_bytes=20 * size))
    for task in range(1, 21):
        rig.clock.now += 1
        begin(rig, task, bytes([task]) * 32)
        end(rig, task, payload=b"x" * 1000, usage=None)
    begin(rig, 21, bytes([1]) * 32)
    rig.clock.now += 1
    end(rig, 21, usage=None)
    check(rig)
    assert len(values(rig)) == 20
    begin(rig, 22, A)
    end(rig, 22, payload=b"y" * 1000, usage=None)
    check(rig)
    left = values(rig)
    assert set(left) == {bytes([number]) * 32 for number in (1, *range(5, 21))} | {A}, "with some room to spare"
    begin(rig, 23, B)
    end(rig, 23, payload=b"z" * (21 * size), usage=None)
    assert values(rig) == left, "what is larger than all of it is not stored"
    rig.store.close()


def test_what_is_not_used_for_long_goes() -> None:
    rig = started(8, Rules(keep_cache=10 * DAY, max_cache_bytes=1 << 30))
    begin(rig, 1)
    end(rig, 1)
    begin(rig, 2, B)
    end(rig, 2)
    rig.clock.now += 9 * DAY
    rig.run()
    begin(rig, 3)
    end(rig, 3)
    rig.clock.now += DAY + 61
    rig.run()
    assert set(values(rig)) == {A}
    rig.clock.now += 10 * DAY
    rig.run()
    check(rig)
    assert values(rig) == {}
    rig.store.close()


def test_a_cache_of_no_size_stores_nothing() -> None:
    rig = started(4, Rules(max_cache_bytes=0))
    begin(rig, 1)
    second = begin(rig, 2)
    end(rig, 1, payload=b"x")
    assert second.body == {"value": b"x"}, "one call is one call all the same"
    check(rig)
    assert values(rig) == {}
    rig.store.close()


@pytest.mark.parametrize("verb", ["commit", "conclude", "write"])
def test_a_turn_that_fails_takes_everything_back(rig: Rig, verb: str) -> None:
    begin(rig, 1)
    waiting = begin(rig, 2)
    ended = rig.executor.ended(rig.attempt(1), payload=b"answer")
    rig.post(AttemptsEnded([ended]))
    served = post_begin(rig, 3)
    other = post_begin(rig, 4, B)
    rig.store.fail = (verb, RuntimeError("a defect"))
    rig.run()
    assert rig.store.fail is None
    assert waiting.body == {"value": b"answer"}
    assert served.body == {"entry": 1}
    assert other.body == {"lead": True}
    check(rig)


def test_a_full_disk_stores_no_answer_and_loses_no_outcome() -> None:
    rig = Rig(free_bytes=lambda: 0)
    rig.slots(1, Kind.COROUTINE, 8)
    rig.engine._upkeep._free_bytes = lambda: 1 << 40
    rig.submit(many(4, kind=Kind.COROUTINE))
    rig.engine._upkeep._free_bytes = lambda: 0
    begin(rig, 1)
    waiting = begin(rig, 2)
    rig.store.fail = ("commit", StoreFull("full"))
    end(rig, 1, payload=b"answer")
    assert waiting.body == {"value": b"answer"}
    assert values(rig) == {}
    assert rig.contents().results == {1: b"answer"}
    check(rig)
    rig.store.close()


def test_a_turn_without_calls_does_not_take_back_those_of_earlier_ones(rig: Rig) -> None:
    begin(rig, 1)
    rig.post(Ping(Answer()))
    rig.store.fail = ("conclude", RuntimeError("a defect"))
    rig.run()
    second = begin(rig, 2)
    assert not second.given, "the first still asks"


def test_what_was_cleared_and_is_still_to_be_removed_is_in_nobody_s_way(rig: Rig) -> None:
    begin(rig, 1)
    end(rig, 1, payload=b"old")
    begin(rig, 2, A, "write")
    rig.post(ClearCache(Answer()), AttemptsEnded([rig.executor.ended(rig.attempt(2), payload=b"new")]))
    rig.run()
    assert values(rig) == {A: b"new"}


def test_a_smaller_cache_makes_room_by_itself(rig: Rig) -> None:
    for task, name in ((1, b"a"), (2, b"b"), (3, b"c")):
        rig.clock.now += 1
        begin(rig, task, name * 32)
        end(rig, task, payload=b"x", usage=None)
    rig.post(Configure(Answer(), {}, Rules(keep_flows=0.0, keep_events=0.0, max_cache_bytes=ROW_COST * 2)))
    rig.run()
    assert set(values(rig)) == {b"c" * 32}
