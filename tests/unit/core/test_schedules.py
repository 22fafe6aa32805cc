"""When a schedule runs. The calendar is cronsim's; here is what we rely on, and what we make of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemflowd.core.schedules import GRACE, MOST_WALKED, Overlap, first_run, next_run, overlap, plan
from gemflowd.model.errors import Invalid
from gemflowd.model.schedule import Schedule

BERLIN = "Europe/Berlin"


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def schedule(cron: str = "0 3 * * *", zone: str = "UTC", **fields: object) -> Schedule:
    values = {
        "name": "s",
        "misfire": "once",
        "misfire_limit": 10,
        "overlap": "skip",
        "paused": False,
        "next_run": None,
        "last_run": None,
        "last_flow": None,
        "waiting": None,
        "fired": 0,
        "skipped": 0,
        "created": 0.0,
    }
    return Schedule(cron=cron, zone=zone, **{**values, **fields})  # type: ignore[arg-type]


def following(cron: str, after: str, count: int, zone: str = BERLIN) -> list[str]:
    """The next runs as local times with their offset; each is asked for from the one before, as the engine does it."""
    found = []
    moment = at(after)
    for _ in range(count):
        run = next_run(cron, zone, moment)
        assert run is not None
        assert run > moment
        moment = run
        found.append(datetime.fromtimestamp(run, ZoneInfo(zone)).isoformat())
    return found


# The calendar


def test_a_run_is_after_the_moment_never_at_it():
    assert next_run("0 3 * * *", "UTC", at("2026-05-01T03:00:00+00:00")) == at("2026-05-02T03:00:00+00:00")
    assert next_run("0 3 * * *", "UTC", at("2026-05-01T02:59:59.999999+00:00")) == at("2026-05-01T03:00:00+00:00")
    assert next_run("0 3 * * *", "UTC", at("2026-05-01T03:00:00.000001+00:00")) == at("2026-05-02T03:00:00+00:00")


def test_the_first_of_six_fields_is_for_seconds():
    assert next_run("*/20 * * * * *", "UTC", at("2026-05-01T03:00:05+00:00")) == at("2026-05-01T03:00:20+00:00")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("@hourly", "2026-05-01T04:00:00+00:00"),
        ("@daily", "2026-05-02T00:00:00+00:00"),
        ("@weekly", "2026-05-03T00:00:00+00:00"),
        ("@monthly", "2026-06-01T00:00:00+00:00"),
        ("@yearly", "2027-01-01T00:00:00+00:00"),
    ],
)
def test_the_usual_names(name: str, expected: str):
    assert next_run(name, "UTC", at("2026-05-01T03:30:00+00:00")) == at(expected)


def test_clocks_go_forward():
    """02:00 … 03:00 is not there: a run at a fixed time in it comes at the end of the gap, once."""
    assert following("30 2 * * *", "2026-03-28T12:00+01:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]
    assert following("0,30 2 * * *", "2026-03-28T12:00+01:00", 2)[1] == "2026-03-30T02:00:00+02:00"
    # What runs every so often goes by the time that really passes, and what has seconds is taken literally.
    assert following("*/30 * * * *", "2026-03-29T01:15+01:00", 2) == [
        "2026-03-29T01:30:00+01:00",
        "2026-03-29T03:00:00+02:00",
    ]
    assert following("0 30 2 * * *", "2026-03-28T12:00+01:00", 1) == ["2026-03-30T02:30:00+02:00"]


def test_clocks_go_back():
    """02:00 … 03:00 is there twice: a run at a fixed time in it comes the first time alone."""
    assert following("30 2 * * *", "2026-10-25T00:00+02:00", 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]
    assert following("30 2 * * *", "2026-10-25T02:15+01:00", 1) == ["2026-10-26T02:30:00+01:00"], "not in the past"
    assert following("*/30 * * * *", "2026-10-25T02:15+02:00", 3) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
    ]


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("61 * * * *", "bad minute"),
        ("* * *", "number of fields"),
        ("", "number of fields"),
        ("@often", "number of fields"),
        ("0 0 30 2 *", "day-of-month"),
        ("0 0 */30 2 1#5", "is never"),
        ("* " * 101, "200 characters"),
    ],
)
def test_what_is_no_expression_is_refused_with_a_sentence(cron: str, says: str):
    with pytest.raises(Invalid, match=says) as caught:
        first_run(cron, "UTC", 0.0)
    assert (caught.value.code, caught.value.path) == ("invalid_value", "cron")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "/etc/passwd", "../UTC", "Europe", "a\0b", "x" * 5_000])
def test_what_is_no_zone_is_refused(zone: str):
    with pytest.raises(Invalid, match="no IANA time zone") as caught:
        first_run("* * * * *", zone, 0.0)
    assert caught.value.path == "zone"
    assert len(str(caught.value)) < 500


@settings(deadline=None)
@given(st.text("0123456789*/-,#LWMONJAN@ ²\t", max_size=40), st.sampled_from(["UTC", BERLIN, "America/Havana"]))
def test_whatever_is_written_is_refused_or_runs(cron: str, zone: str):
    now = 1_790_000_000.0
    try:
        run = first_run(cron, zone, now)
    except Invalid:
        return
    assert run > now


# Runs that are due


def runs(cron: str, now: str, next_run: str, zone: str = "UTC", most: int = 100, **how: object):
    return plan(schedule(cron, zone, next_run=at(next_run), **how), at(now), most)


def test_a_run_in_time():
    it = runs("0 3 * * *", "2026-05-01T03:00:00.2+00:00", "2026-05-01T03:00+00:00")
    assert it.fire == [at("2026-05-01T03:00+00:00")]
    assert it.next_run == at("2026-05-02T03:00+00:00")
    assert (it.skipped, it.last_skipped) == (0, None)


@pytest.mark.parametrize("misfire", ["skip", "once", "all"])
def test_up_to_a_minute_late_is_no_misfire(misfire: str):
    it = runs("0 3 * * *", "2026-05-01T03:01:00+00:00", "2026-05-01T03:00+00:00", misfire=misfire)
    assert it.fire == [at("2026-05-01T03:00+00:00")]
    every = runs("*/20 * * * * *", "2026-05-01T03:01:00+00:00", "2026-05-01T03:00+00:00", misfire=misfire)
    assert len(every.fire) == 4, "each of those counts for itself"
    assert every.next_run == at("2026-05-01T03:01:20+00:00")


@pytest.mark.parametrize(("misfire", "fired"), [("skip", []), ("once", [5]), ("all", [3, 4, 5])])
def test_what_becomes_of_missed_runs(misfire: str, fired: list[int]):
    it = runs("0 3 * * *", "2026-05-05T12:00+00:00", "2026-05-01T03:00+00:00", misfire=misfire, misfire_limit=3)
    assert it.fire == [at(f"2026-05-0{day}T03:00+00:00") for day in fired]
    assert it.skipped == 5 - len(fired)
    assert it.last_skipped == at(f"2026-05-0{5 - len(fired)}T03:00+00:00")
    assert it.next_run == at("2026-05-06T03:00+00:00")


def test_missed_ones_and_one_in_time():
    it = runs("0 * * * *", "2026-05-01T06:00:30+00:00", "2026-05-01T03:00+00:00")
    assert it.fire == [at("2026-05-01T05:00+00:00"), at("2026-05-01T06:00+00:00")]
    assert it.skipped == 2


def test_what_is_too_much_at_once_goes_on_where_it_was():
    """By turns it comes to the same as at once."""
    now, first = "2026-05-05T12:00+00:00", "2026-05-01T03:00+00:00"
    whole = runs("0 * * * *", now, first, misfire="all", misfire_limit=10)
    part = runs("0 * * * *", now, first, misfire="all", misfire_limit=10, most=4)
    assert (part.fire, part.skipped) == (whole.fire[:4], whole.skipped)
    assert part.next_run == whole.fire[4]
    rest = plan(schedule("0 * * * *", next_run=part.next_run, misfire="all", misfire_limit=10), at(now), 100)
    assert (rest.fire, rest.skipped, rest.next_run) == (whole.fire[4:], 0, whole.next_run)


@pytest.mark.parametrize("cron", ["* * * * * *", "* * * * *", "0 3 * * *"])
@pytest.mark.parametrize("zone", ["UTC", BERLIN])
def test_years_of_missed_runs_are_not_walked_through(cron: str, zone: str):
    before = time.perf_counter()
    it = runs(cron, "2026-05-01T12:00:00.5+00:00", "2006-05-01T03:00+00:00", zone, misfire="all", misfire_limit=100)
    seconds = time.perf_counter() - before
    late = at("2026-05-01T12:00:00.5+00:00") - GRACE
    assert len([run for run in it.fire if run < late]) == MOST_WALKED
    assert it.walked <= MOST_WALKED + GRACE + 1
    assert it.fire == sorted(it.fire)
    assert it.next_run is not None
    assert seconds < 0.1


@pytest.mark.parametrize("hour", ["02:50:00+02:00", "02:10:00+01:00", "02:50:00+01:00", "03:10:00+01:00"])
def test_missed_runs_are_found_in_an_hour_that_comes_twice(hour: str):
    now = f"2026-10-25T{hour}"
    it = runs("30 2 * * *", now, "2026-10-24T02:30+02:00", BERLIN, misfire="all")
    assert it.fire == [at("2026-10-24T02:30+02:00"), at("2026-10-25T02:30+02:00")]
    assert it.next_run == at("2026-10-26T02:30+01:00")


@settings(deadline=None)
@given(
    st.sampled_from(
        ["30 2 * * *", "*/7 * * * *", "0 30 2 * * *", "0 0 * * *", "15 */5 * * *", "0 0 L * *", "0,30 1,2,3 * * *"]
    ),
    st.sampled_from(["UTC", BERLIN, "America/Havana", "Australia/Lord_Howe"]),
    st.integers(0, 400 * 24),
    st.integers(61, 40 * 3600),
)
def test_backwards_finds_what_forwards_does(cron: str, zone: str, hour: int, gap: int):
    """What is made up for is what would have run: both ways through the calendar agree, also where clocks change."""
    start = at("2026-01-01T00:00+00:00") + hour * 3600
    first = next_run(cron, zone, start)
    assert first is not None
    now = first + gap
    forwards = [first]
    while (run := next_run(cron, zone, forwards[-1])) is not None and run <= now:
        forwards.append(run)
    it = plan(schedule(cron, zone, next_run=first, misfire="all", misfire_limit=100), now, 1_000)
    assert it.fire[-len(forwards) :] == forwards[-len(it.fire) :]
    assert len(it.fire) == min(len(forwards), len([run for run in forwards if run >= now - GRACE]) + MOST_WALKED)
    assert it.next_run == run


# Overlap


@pytest.mark.parametrize("policy", ["skip", "allow", "queue", "cancel"])
def test_nothing_overlaps_when_the_last_run_has_ended(policy: str):
    assert overlap(schedule(overlap=policy), busy=False) is Overlap.FIRE


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("skip", Overlap.SKIP), ("allow", Overlap.FIRE), ("queue", Overlap.WAIT), ("cancel", Overlap.REPLACE)],
)
def test_what_becomes_of_a_run_whose_predecessor_goes_on(policy: str, expected: Overlap):
    assert overlap(schedule(overlap=policy), busy=True) is expected


def test_one_run_waits_the_others_are_skipped():
    assert overlap(schedule(overlap="queue", waiting=1.0), busy=True) is Overlap.SKIP


def test_of_several_that_would_cancel_each_other_the_last_one_runs():
    it = runs("0 3 * * *", "2026-05-05T12:00+00:00", "2026-05-01T03:00+00:00", misfire="all", overlap="cancel")
    assert it.fire == [at("2026-05-05T03:00+00:00")]
    assert it.skipped == 4


def test_utc_is_utc():
    assert next_run("0 12 * * *", "UTC", 0.0) == next_run("0 12 * * *", "Etc/UTC", 0.0) == 12 * 3600
    assert datetime.fromtimestamp(12 * 3600, UTC).hour == 12


@pytest.mark.parametrize(
    "cron",
    [
        "*/60 * * * *",
        "0 */24 * * *",
        "0 0 */31 * *",
        "0 0 1 */12 *",
        "0 0 * * */8",
        "10-20/11 * * * *",
        "1,5/55 * * * *",
        "*/60 * * * * *",
    ],
)
def test_a_step_larger_than_its_range_is_refused(cron: str):
    with pytest.raises(Invalid, match="larger than what it steps through") as refused:
        first_run(cron, "UTC", 0.0)
    assert refused.value.path == "cron"


@pytest.mark.parametrize(
    "cron", ["*/59 * * * *", "0 */23 * * *", "10-20/10 * * * *", "5/15 * * * *", "0 0 * * MON-FRI/2", "*/30 * * * * *"]
)
def test_other_steps_are_taken(cron: str):
    assert first_run(cron, "UTC", 0.0) > 0
