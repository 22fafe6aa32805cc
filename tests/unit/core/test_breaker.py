"""The breaker of a limit."""

from gemflowd.core import breaker
from gemflowd.core.breaker import Verdict
from gemflowd.model.attempt import Outcome
from gemflowd.model.limit import Breaker, Figures

NOW = 1_000.0
THREE = Figures(breaker=3, breaker_pause=10.0)


def fail(it: Breaker, times: int, at: float = NOW, figures: Figures = THREE) -> list[bool]:
    return [breaker.note(it, Verdict.BAD, at, at, figures) for _ in range(times)]


def test_it_opens_after_so_many_in_a_row_and_lets_one_try_after_the_pause():
    it = Breaker()
    assert fail(it, 3) == [False, False, True]
    assert not breaker.lets_through(it, NOW + 9.9)
    assert breaker.lets_through(it, NOW + 10)
    breaker.sent(it, 7)
    assert not breaker.lets_through(it, NOW + 11), "one tries"
    breaker.back(it, 8)
    assert not breaker.lets_through(it, NOW + 11)
    breaker.back(it, 7)
    assert breaker.note(it, Verdict.GOOD, NOW + 10, NOW + 12, THREE)
    assert breaker.closed(it)
    assert fail(it, 2) == [False, False]


def test_a_try_that_fails_doubles_the_pause():
    it = Breaker()
    fail(it, 3)
    at = NOW + 10
    for pause in (20, 40, 80, 160, 320, 600, 600):
        assert fail(it, 1, at) == [True]
        assert it.until == at + pause
        at += pause


def test_what_was_on_its_way_says_nothing_about_now():
    it = Breaker()
    fail(it, 3)
    assert not breaker.note(it, Verdict.GOOD, NOW - 1, NOW + 1, THREE)
    assert not breaker.note(it, Verdict.BAD, NOW - 1, NOW + 1, THREE)
    assert it.until == NOW + 10


def test_a_success_in_between_and_a_long_time_begin_anew():
    it = Breaker()
    fail(it, 2)
    breaker.note(it, Verdict.GOOD, NOW, NOW, THREE)
    assert fail(it, 2) == [False, False]
    assert fail(it, 1, NOW + 601) == [False]


def test_it_can_be_switched_off():
    assert not any(fail(Breaker(), 50, figures=Figures(breaker=0)))


def test_what_counts():
    closed, opened = Breaker(), Breaker(until=NOW)
    assert breaker.verdict_of(closed, Outcome.ERROR, "overloaded") is Verdict.BAD
    assert breaker.verdict_of(closed, Outcome.PERMANENT, "unauthenticated") is Verdict.BAD
    assert breaker.verdict_of(closed, Outcome.ERROR, "bad_json") is Verdict.NEITHER
    assert breaker.verdict_of(closed, Outcome.PERMANENT, "bad_request") is Verdict.NEITHER
    assert breaker.verdict_of(opened, Outcome.PERMANENT, "bad_request") is Verdict.GOOD
    assert breaker.verdict_of(closed, Outcome.RATE_LIMITED, "rate_limited") is Verdict.GOOD
    assert breaker.verdict_of(closed, Outcome.LOST, None) is Verdict.NEITHER
