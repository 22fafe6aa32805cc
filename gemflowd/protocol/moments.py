"""Moments as people and programs write them. Pure; daemon and client read them alike."""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import Any


def parse_moment(value: Any) -> float:
    """Seconds since the epoch of a moment: a number of them, or ISO 8601 with a zone (`2030-01-31T08:00:00+01:00`).

    Raises:
        ValueError: it is none, or without a zone.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(f"{value[:80]!r} is not a moment; write it as 2030-01-31T08:00:00+01:00") from None
    if not isinstance(moment, datetime):
        if isinstance(moment, date):
            raise ValueError(f"{value} has no time of day")  # noqa: TRY004
        raise ValueError("a moment is ISO 8601 with a zone, or seconds since the epoch")  # noqa: TRY004
    if moment.tzinfo is None:
        raise ValueError(f"{str(value)[:80]} has no zone; end it with Z or +01:00")
    return moment.timestamp()
