"""Cheaper tiers: with which one an attempt asks, and what its failure means for the next one.

`flex` may be refused when Google is busy. Then it is asked again and again, which costs no try, until a standard call would just
be in time; without a deadline the task's tries count, and the standard tier is asked when they are used up. Everything that has to be
known for that is in the task's data (the deadline as a moment) and in the note of the attempt before.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gemflowd.handlers.errors import Again, HandlerError, Instead, Parked, RateLimited, Transient

#: Errors that say that flex has no room now. `rate_limited` only where it names no quota.
_NO_ROOM: Final = frozenset({"overloaded", "timeout"})
#: Seconds before a standard call is due, where the setting `tier_margin` does not say.
MARGIN: Final = 30.0
_MOST_PAUSE: Final = 60.0
_STANDARD: Final = "standard"


@dataclass(frozen=True, slots=True)
class Way:
    """How an attempt asks.

    Attributes:
        tier: `flex`, `batch`, `standard`, `priority`; None: the task says nothing about it.
        until: when it has to be the standard tier, seconds since the epoch; None: never.
        timeout: seconds for the call.
        waits: how often flex has had no room.
    """

    tier: str | None
    until: float | None
    timeout: float
    waits: int = 0


def way_of(data: Mapping[str, Any], note: Any, settings: Mapping[str, Any], timeout: float, now: float) -> Way:
    """How to ask now.

    Args:
        note: of the attempt before.
        timeout: seconds that the attempt has.
        now: seconds since the epoch.
    """
    tier = data.get("tier")
    if tier not in ("flex", "batch"):
        return Way(tier, None, timeout)
    said: Mapping[str, Any] = note if isinstance(note, Mapping) else {}
    until = None
    if data.get("deadline") is not None:
        margin = float(settings.get("tier_margin", MARGIN))
        until = datetime.fromisoformat(data["deadline"]).timestamp() - margin
    if said.get("tier") == _STANDARD or (until is not None and until <= now):
        return Way(_STANDARD, until, timeout)
    # A call that still waits for its answer when a standard one is due has had its time.
    most = timeout if until is None or tier != "flex" else min(timeout, until - now)
    return Way(tier, until, most, int(said.get("waits") or 0))


def written_into(data: dict[str, Any], way: Way) -> dict[str, Any]:
    """The data with the tier as Gemini is told of it."""
    return {**data, "service_tier": way.tier} if way.tier in ("flex", "priority") else data


def without_room(failure: HandlerError, way: Way, note: Any, now: float) -> HandlerError | None:
    """What follows where a flex call has failed because there is no room; None where that is not why.

    Args:
        note: of the attempt before: what it says is kept.
        now: seconds since the epoch.
    """
    full = failure.code in _NO_ROOM or (isinstance(failure, RateLimited) and not failure.quota)
    if way.tier != "flex" or not full:
        return None
    said = dict(note) if isinstance(note, Mapping) else {}
    otherwise = Instead({**said, "tier": _STANDARD})
    if way.until is None:
        plain = Transient(failure.message, code=failure.code, usage=failure.usage)
        plain.instead = otherwise
        return plain
    left = way.until - now
    if left <= 0:
        message = f"{failure.message} (the deadline is near: the standard tier is asked)"
        return Again(message, otherwise, code=failure.code, usage=failure.usage)
    pause = min(_MOST_PAUSE, 2.0**way.waits) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
    again = Instead({**said, "waits": min(way.waits + 1, 10)})
    message = f"{failure.message} (flex is asked again, for {left:.0f} s more)"
    return Parked(message, seconds=min(pause, left), instead=again, code=failure.code, usage=failure.usage)
