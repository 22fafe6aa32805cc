"""Durations and moments as people write them, as seconds. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gemflowd.protocol.moments import parse_moment

_DURATION: Final = re.compile(r"(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|min|h|d)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def is_duration(text: str) -> bool:
    """Whether it is written as a duration, and not as a moment."""
    return _DURATION.fullmatch(text.strip()) is not None


def parse_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `1.5m`, `2h`, `1d` or `200ms`.

    Raises:
        ValueError: it is none.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write seconds, or 200ms, 90s, 10m, 2h, 1d")
    return float(match["value"]) * _UNITS[match["unit"] or "s"]


def parse_since(text: str, now: float) -> float:
    """Seconds since the epoch of a moment, or of a duration before now.

    Raises:
        ValueError: it is neither.
    """
    if is_duration(text):
        return now - parse_duration(text)
    return parse_moment(text)


def format_seconds(seconds: float | None) -> str:
    """A duration in a few characters: `35 ms`, `1.2 s`, `3m05s`, `2h10m`, `4d03h`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = timedelta(seconds=round(seconds))
    minutes, rest = divmod(whole.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if whole.days:
        return f"{whole.days}d{hours:02}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def format_moment(seconds: float | None) -> str:
    """A moment in local time, with seconds; `-` for None."""
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def format_utc(seconds: float) -> str:
    """The time of day in UTC, as the days of quotas are told: `08:00 UTC`."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return str(seconds)
    return moment.strftime("%H:%M:%S UTC" if moment.second else "%H:%M UTC")


def format_bytes(count: float | None) -> str:
    """`512 B`, `43.1 MB`, …; `-` for None."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def format_progress(progress: Mapping[str, Any] | None) -> str | None:
    """`37 of 100 (37 %): what it does`, or what of it is known."""
    if not progress:
        return None
    done, total, message = progress["done"], progress.get("total"), progress.get("message")
    text = f"{done:.12g}" if total is None else f"{done:.12g} of {total:.12g}"
    if total:
        text += f" ({done / total:.0%})"
    return f"{text}: {message}" if message else text
