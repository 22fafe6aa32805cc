"""The ledger of one limit: windows, the day, what is reserved and what a 429 teaches."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gemflowd.core import quota
from gemflowd.core.quota import CELLS, Need, Quota, margin
from gemflowd.model.limit import Figures, Ledger

NOW = 1_000_000.0
WALL = datetime(2026, 3, 6, 20, 0, tzinfo=UTC).timestamp()  # noon Pacific
ONE = Need(1.0, 0.0, 0.0)


def send(ledger: Ledger, figures: Figures, at: float, size: int = 0, wall: float = WALL):
    return quota.send(ledger, figures, size, now=at, wall=wall)


def wait(ledger: Ledger, figures: Figures, at: float, needed: Need = ONE, *, in_flight: int = 0, high: bool = False):
    return quota.wait(ledger, figures, needed, in_flight, high=high, now=at, wall=WALL)


def settle(ledger: Ledger, figures: Figures, sent, *, tokens=None, cost=None, began=0.0, seconds=0.0) -> None:
    quota.settle(ledger, figures, sent, tokens, cost, began, seconds)


def test_a_window_is_free_again_when_what_was_sent_first_has_left_it():
    ledger, figures = Ledger(), Figures(rpm=2)
    send(ledger, figures, NOW)
    assert wait(ledger, figures, NOW + 5) is None
    send(ledger, figures, NOW + 5)
    until = NOW + 60 + margin(60)
    assert wait(ledger, figures, NOW + 6) == quota.Wait("rpm", until)
    assert wait(ledger, figures, until - 0.001) is not None
    assert wait(ledger, figures, until) is None
    send(ledger, figures, until)
    assert wait(ledger, figures, until) == quota.Wait("rpm", until + 5)


def test_each_figure_counts_by_itself_and_the_longest_wait_counts():
    ledger, figures = Ledger(), Figures(rpm=2, requests=1, per=10.0)
    send(ledger, figures, NOW)
    found = wait(ledger, figures, NOW)
    assert found is not None
    assert found.figure == "requests"
    send(ledger, figures, NOW + 20)
    found = wait(ledger, figures, NOW + 20)
    assert found is not None
    assert found.figure == "rpm"


def test_tokens_are_guessed_then_corrected_by_what_was_used():
    ledger, figures = Ledger(), Figures(tpm=1000)
    sent = send(ledger, figures, NOW, size=400)
    assert ledger.logs["tpm"].total == 100
    settle(ledger, figures, sent, tokens=300.0)
    assert ledger.logs["tpm"].total == 300
    needed, _ = quota.need(ledger, 400)
    assert needed.tokens == pytest.approx(300), "the first that tells counts as it is"
    for _ in range(50):
        settle(ledger, figures, send(ledger, figures, NOW + 200, size=400), tokens=50.0)
    assert quota.need(ledger, 400)[0].tokens == pytest.approx(50, rel=0.05)


def test_what_nobody_tells_the_outcome_of_counts_as_reserved():
    ledger, figures = Ledger(), Figures(tpm=1000)
    settle(ledger, figures, send(ledger, figures, NOW, size=400))
    assert ledger.logs["tpm"].total == 100
    assert ledger.logs["rpm"].total == 1


def test_what_was_never_sent_leaves_nothing():
    ledger, figures = Ledger(), Figures(tpm=1000, rpd=5, spend=3.0, requests=5, tokens=7)
    ledger.mean_cost = 0.5
    sent = send(ledger, figures, NOW, size=400)
    assert {name: log.total for name, log in ledger.logs.items()} == {
        "rpm": 1, "tpm": 100, "requests": 1, "tokens": 100, "spend": 0.5,
    }  # fmt: skip
    quota.unsend(ledger, sent)
    assert {log.total for log in ledger.logs.values()} == {0.0}
    assert ledger.day_count == 0


def test_a_prompt_above_the_whole_limit_waits_for_an_empty_window_and_not_for_ever():
    ledger, figures = Ledger(), Figures(tpm=100)
    huge = Need(1.0, 5_000.0, 0.0)
    assert wait(ledger, figures, NOW, huge) is None
    send(ledger, figures, NOW, size=4)
    found = wait(ledger, figures, NOW, huge)
    assert found is not None
    assert found.until == NOW + 60 + margin(60)


def test_spend_counts_what_was_paid():
    ledger, figures = Ledger(), Figures(spend=1.0)
    sent = send(ledger, figures, NOW)
    assert wait(ledger, figures, NOW) is None, "nothing is known of its costs yet"
    settle(ledger, figures, sent, cost=0.9)
    found = wait(ledger, figures, NOW, quota.need(ledger, 0)[0])
    assert found is not None
    assert (found.figure, found.until) == ("spend", NOW + 600 + margin(600))


def test_a_share_is_kept_for_high_priorities():
    ledger, figures = Ledger(), Figures(rpm=10, in_flight=10, reserve=0.2)
    for _ in range(8):
        send(ledger, figures, NOW)
    assert wait(ledger, figures, NOW) is not None
    assert wait(ledger, figures, NOW, high=True) is None
    assert wait(Ledger(), figures, NOW, in_flight=8) == quota.Wait("in_flight", None)
    assert wait(Ledger(), figures, NOW, in_flight=8, high=True) is None
    assert wait(Ledger(), Figures(rpm=1, reserve=0.9), NOW) is None, "one is left for everybody"


def test_the_log_is_short_and_never_forgets_too_early():
    ledger, figures = Ledger(), Figures(rpm=100_000)
    for step in range(6000):
        send(ledger, figures, NOW + step * 0.01)
    log = ledger.logs["rpm"]
    assert len(log.cells) <= CELLS + 2
    assert log.total == 6000
    quota.expire(log, 60.0, NOW + 60 + margin(60) + 0.4)
    assert log.total > 5900


def test_a_window_that_is_set_later_knows_what_was():
    ledger = Ledger()
    for at in (NOW, NOW + 1, NOW + 20):
        send(ledger, Figures(), at)
    found = wait(ledger, Figures(requests=2, per=30.0), NOW + 21)
    assert found is not None
    assert found.figure == "requests"
    assert ledger.logs["requests"].total == 3
    send(ledger, Figures(requests=2, per=30.0), NOW + 60)
    assert ledger.logs["requests"].total == 1


def test_a_call_counts_from_when_it_may_have_arrived():
    ledger, figures = Ledger(), Figures(requests=2, per=10.0)
    ledger.fastest = 0.5
    first, second = send(ledger, figures, NOW), send(ledger, figures, NOW)
    settle(ledger, figures, first, began=NOW + 0.4, seconds=0.5)
    settle(ledger, figures, second, began=NOW + 0.4, seconds=9.0)  # which is mostly its answer's
    late = NOW + 0.4 + 0.03 * 10
    assert [cell[1] for cell in ledger.logs["requests"].cells] == [NOW + 0.4, late]
    assert wait(ledger, figures, NOW + 1) == quota.Wait("requests", NOW + 10.4 + margin(10))
    assert ledger.logs["requests"].total == 2


def test_calls_that_were_sent_before_any_had_ended_may_have_been_slow_to_begin():
    ledger, figures = Ledger(), Figures(requests=2, per=10.0)
    first, second = send(ledger, figures, NOW), send(ledger, figures, NOW)
    settle(ledger, figures, first, began=NOW, seconds=0.5)
    quota.took(ledger, 0.5, NOW + 0.5)
    settle(ledger, figures, second, began=NOW, seconds=0.5)
    assert [cell[1] for cell in ledger.logs["requests"].cells] == [NOW + 0.035 * 10]


# The day


def test_the_day_turns_at_midnight_pacific():
    ledger, figures = Ledger(), Figures(rpd=1)
    send(ledger, figures, NOW)
    found = wait(ledger, figures, NOW)
    assert found is not None
    assert found.wall == datetime(2026, 3, 7, 8, 0, tzinfo=UTC).timestamp()
    assert quota.wait(ledger, figures, ONE, 0, high=True, now=NOW, wall=found.wall) is None


@pytest.mark.parametrize(
    ("month", "day", "hours"),
    [(3, 8, 23), (11, 1, 25), (7, 1, 24)],
)
def test_days_with_another_length(month: int, day: int, hours: int):
    ledger = Ledger()
    quota.roll(ledger, Figures(), datetime(2026, month, day, 20, tzinfo=UTC).timestamp())
    assert ledger.day[1] - ledger.day[0] == hours * 3600


def test_another_zone():
    ledger = Ledger()
    quota.roll(ledger, Figures(zone="UTC"), WALL)
    assert ledger.day[0] % 86_400 == 0


def test_a_429_of_the_day_is_waited_for_once_then_the_day_is_used_up():
    ledger, figures = Ledger(), Figures()
    first, same = send(ledger, figures, NOW), send(ledger, figures, NOW)
    assert not quota.day_used_up(ledger, first, NOW + 20)
    assert not quota.day_used_up(ledger, same, NOW + 20), "it was on its way already"
    assert wait(ledger, figures, NOW + 20) is None
    again = send(ledger, figures, NOW + 20)
    assert quota.day_used_up(ledger, again, NOW + 40)
    found = wait(ledger, figures, NOW + 60)
    assert found is not None
    assert found.wall == ledger.day[1]
    quota.roll(ledger, figures, ledger.day[1])
    assert not ledger.parked
    assert not quota.day_used_up(ledger, again, NOW + 90_000), "it was yesterday's"


# What a 429 teaches


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "10", Quota("rpm", 10, None)),
        ("GenerateContentInputTokensPerModelPerMinute-FreeTier", "250000", Quota("tpm", 250_000, None)),
        ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "20", Quota("rpd", 20, None)),
        ("GenerateRequestsPer10SecondsPerProject", "100", Quota("requests", 100, 10.0)),
        ("InputTokensPerHour", "5", Quota("tokens", 5, 3600.0)),
        ("InputTokensPerDay", "5", Quota("rpd", None, None)),
        ("GenerateRequestsPerMinute", "", Quota("rpm", None, None)),
        ("GenerateRequestsPerMinute", "0", Quota("rpm", None, None)),
        ("GenerateRequestsPerMinute", "many", Quota("rpm", None, None)),
        ("SomethingElse", "7", Quota(None, None, None)),
    ],
)
def test_names_of_quotas(name: str, value: str, expected: Quota):
    assert quota.quota_of({"id": name, "value": value}) == expected


def test_figures_are_learned_and_believed_for_a_day():
    ledger = Ledger()
    quotas = [Quota("rpm", 10, None), Quota("requests", 7, 5.0), Quota("tpm", None, None)]
    assert quota.learn(ledger, quotas, NOW) == ["rpm", "requests", "per"]
    assert quota.learn(ledger, quotas, NOW + 1) == []
    assert quota.believed(ledger, NOW + 86_400) == {"rpm": 10, "requests": 7, "per": 5.0}
    assert quota.believed(ledger, NOW + 86_401) == {}


def test_one_cut_a_generation_then_one_more_a_round():
    ledger = Ledger()
    quota.cut(ledger, NOW, 100, NOW + 1)
    assert ledger.cap == pytest.approx(70)
    quota.cut(ledger, NOW + 0.5, 99, NOW + 1.5)
    assert ledger.cap == pytest.approx(70), "it was sent before the cut"
    quota.cut(ledger, NOW + 2, 70, NOW + 3)
    assert ledger.cap == pytest.approx(49)
    for _ in range(50):
        quota.grow(ledger)
    assert 49.9 < ledger.cap < 50.1
    for at in range(100):
        quota.cut(ledger, NOW + 10 + at, 1, NOW + 10 + at)
    assert ledger.cap == 1.0
