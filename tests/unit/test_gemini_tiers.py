"""Tiers: what `auto` becomes, how a deadline is written out, and what follows when flex has no room."""

from __future__ import annotations

from typing import Any

import pytest

from gemflowd.handlers.errors import Again, Parked, Permanent, RateLimited, Transient
from gemflowd.handlers.gemini.tiers import Way, way_of, without_room, written_into
from gemflowd.model.errors import Invalid
from gemflowd.model.tiers import BATCH_SECONDS, FLEX_SECONDS, cheapest
from gemflowd.server.tiers import write_out

NOW = 1_800_000_000.0
HOUR = 3600.0


@pytest.mark.parametrize(
    ("data", "priority", "left", "many", "tier"),
    [
        ({}, 5, None, True, "batch"),
        ({}, 5, BATCH_SECONDS, True, "batch"),
        ({}, 5, BATCH_SECONDS - 1, True, "flex"),
        ({}, 5, None, False, "flex"),
        ({}, 5, FLEX_SECONDS, False, "flex"),
        ({}, 5, FLEX_SECONDS - 1, True, "standard"),
        ({}, 8, None, True, "standard"),
        ({"stream": True}, 5, None, True, "standard"),
        ({"files": ["a"]}, 5, None, True, "flex"),
    ],
)
def test_auto_is_the_cheapest_that_fits(
    data: dict[str, Any], priority: int, left: float | None, many: bool, tier: str
) -> None:
    assert cheapest(data, priority, left, many=many) == tier


def written(data: dict[str, Any], **options: Any) -> dict[str, Any]:
    return write_out(data, 5, NOW, "data", many=options.get("many", False), vertex=False)


def test_a_deadline_becomes_a_moment_and_auto_a_tier() -> None:
    assert written({"tier": "auto", "deadline": HOUR}) == {"tier": "flex", "deadline": "2027-01-15T09:00:00.000+00:00"}
    moment = {"tier": "flex", "deadline": "2027-01-15T10:00:00+01:00"}
    assert written(moment) == {"tier": "flex", "deadline": "2027-01-15T09:00:00.000+00:00"}
    assert written(written(moment)) == written(moment), "what was written out may be submitted again"
    assert written({"tier": "auto", "deadline": 60}) == {"tier": "standard"}, "nothing waits for it any more"


@pytest.mark.parametrize(
    ("data", "code", "path"),
    [
        ({"deadline": 60}, "invalid_value", "data.deadline"),
        ({"tier": "standard", "deadline": 60}, "invalid_value", "data.deadline"),
        ({"tier": "flex", "deadline": 0}, "invalid_value", "data.deadline"),
        ({"tier": "flex", "deadline": float("nan")}, "invalid_value", "data.deadline"),
        ({"tier": "flex", "deadline": "soon"}, "invalid_value", "data.deadline"),
        ({"tier": "flex", "deadline": True}, "wrong_type", "data.deadline"),
        ({"tier": "flex", "service_tier": "flex"}, "invalid_value", "data.tier"),
        ({"tier": "flex", "config": {"serviceTier": "flex"}}, "invalid_value", "data.tier"),
        ({"tier": "batch", "files": ["a"]}, "not_supported", "data.tier"),
        ({"tier": "batch", "stream": True}, "not_supported", "data.tier"),
    ],
)
def test_what_does_not_go_together(data: dict[str, Any], code: str, path: str) -> None:
    with pytest.raises(Invalid) as refused:
        written(data)
    assert (refused.value.code, refused.value.path) == (code, path)


def way(data: dict[str, Any], note: Any = None, *, now: float = NOW, timeout: float = 300.0) -> Way:
    return way_of(data, note, {"tier_margin": 30.0}, timeout, now)


FLEX = written({"tier": "flex", "deadline": HOUR})


def test_flex_is_asked_until_a_standard_call_is_due() -> None:
    assert way(FLEX) == Way("flex", NOW + HOUR - 30, 300.0)
    assert way(FLEX, now=NOW + HOUR - 130) == Way("flex", NOW + HOUR - 30, 100.0), "and not for longer"
    assert way(FLEX, now=NOW + HOUR - 30).tier == "standard"
    assert way({"tier": "flex"}) == Way("flex", None, 300.0)
    assert way(FLEX, {"tier": "standard", "model": "m"}).tier == "standard"
    assert way({}) == Way(None, None, 300.0)
    assert written_into({"tier": "flex"}, way(FLEX))["service_tier"] == "flex"
    assert "service_tier" not in written_into(FLEX, Way("standard", None, 1.0))


def test_no_room_costs_no_try_before_the_deadline() -> None:
    note = {"model": "m", "waits": 3}
    failure = without_room(Transient("full", code="overloaded"), way(FLEX, note), note, NOW)
    assert isinstance(failure, Parked)
    assert 4.0 <= failure.seconds <= 8.0
    assert failure.instead is not None
    assert failure.instead.note == {"model": "m", "waits": 4}
    late = without_room(Transient("full", code="timeout"), way(FLEX), None, NOW + HOUR - 31)
    assert isinstance(late, Parked)
    assert late.seconds <= 1.0, "when the standard tier is due it is asked"
    over = without_room(Transient("full", code="overloaded"), way(FLEX), note, NOW + HOUR - 30)
    assert isinstance(over, Again)
    assert over.instead is not None
    assert over.instead.note == {"model": "m", "waits": 3, "tier": "standard"}


def test_without_a_deadline_the_tries_count() -> None:
    failure = without_room(RateLimited("full"), way({"tier": "flex"}), None, NOW)
    assert isinstance(failure, Transient)
    assert failure.instead is not None
    assert failure.instead.note == {"tier": "standard"}


def test_what_is_no_lack_of_room() -> None:
    quota = RateLimited("quota", quota=[{"id": "PerMinute", "value": "5"}])
    for error in (quota, Permanent("bad", code="bad_request"), Transient("broken", code="disconnected")):
        assert without_room(error, way(FLEX), None, NOW) is None
    assert without_room(Transient("full", code="overloaded"), way({"tier": "standard"}), None, NOW) is None
