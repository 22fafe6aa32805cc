"""What goes wrong on purpose: by chance with a seed, by a quota, or because the prompt asks for it.

A prompt asks with a marker in its text, for tests that want one fault at one place:

    [[stand-in:429 retry=0.2 times=2]]    the first two calls with this text; RetryInfo says 0.2 s
    [[stand-in:429 retry=36.4 details=no]]   the delay only in the message
    [[stand-in:429 retry=60 daily=1]]   the quota of a day
    [[stand-in:500]] [[stand-in:503]] [[stand-in:400]] …   any status of `STATUSES`
    [[stand-in:slow seconds=2]] [[stand-in:malformed]] [[stand-in:disconnect]]
    [[stand-in:safety]] [[stand-in:blocked]] [[stand-in:max_tokens]] [[stand-in:empty]] [[stand-in:bad_json]]
    [[stand-in:mismatch]]   JSON that does not fit the schema
    [[stand-in:pieces seconds=0.5]]   so long between the pieces of a stream
    [[stand-in:break]]   a stream ends after its first piece
    [[stand-in:batch_failed]] [[stand-in:batch_expired]]   how the batch with this request ends
    [[stand-in:503 model=gemini-a]] [[stand-in:503 tier=flex]]   only where that model, or that tier, is asked

Without `times` a marker counts for every call; with it, for the first ones in which its turn of the conversation has this text. Of
several the first that still counts is taken. Does not cover what a
fault looks like on the wire: `replies`.
"""

from __future__ import annotations

import random
import re
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from gemflowd.standin.options import Options
from gemflowd.standin.parse import Asked

#: Status codes that a marker may ask for, with Google's word for each.
STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_KINDS: Final = frozenset(
    {
        "slow",
        "malformed",
        "disconnect",
        "safety",
        "blocked",
        "max_tokens",
        "empty",
        "bad_json",
        "mismatch",
        "pieces",
        "break",
    }
    | {"batch_failed", "batch_expired"}
)
_MARKER: Final = re.compile(r"\[\[stand-in:(\w+)((?:\s+\w+=[\w.-]+)*)\s*\]\]")
_REMEMBERED: Final = 100_000  # texts whose calls are counted


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. `kind` is a status code as text, or one of the words above."""

    kind: str
    seconds: float | None = None  # of a 429: when to come back; of slow: how much longer; of pieces: between them
    in_details: bool = True  # whether a 429 has typed details, or only a message
    quota: int | None = None  # of a 429 by the quota: its value
    daily: bool = False  # whether a 429 is about the quota of a day
    window: float = 60.0  # and the seconds in which it counts


class Faults:
    """Decides about each request. `now` is an argument, so that a quota's window can be tested without waiting."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._calls: OrderedDict[str, int] = OrderedDict()
        self._sent: dict[str, deque[float]] = {}

    def decide(self, model: str, asked: Asked, now: float) -> Fault | None:
        """What goes wrong with this request; None when nothing does."""
        fault = self._over_quota(model, now)
        if fault is not None:
            return fault
        call = self._count(f"{model}\0{asked.digest}")
        return self.marked(model, asked) or self._by_chance(model, asked, call)

    def marked(self, model: str, asked: Asked) -> Fault | None:
        """What a marker in it asks for."""
        for text in (asked.system, *asked.turns):
            if _MARKER.search(text) and (fault := _marked(text, self._count(f"{model}\0\0{text}"), model, asked.tier)):
                return fault
        return None

    def _over_quota(self, model: str, now: float) -> Fault | None:
        quota = self._options.quota
        if quota is None:
            return None
        sent = self._sent.setdefault(model, deque())
        while sent and sent[0] <= now - self._options.window:
            sent.popleft()
        if len(sent) >= quota:
            seconds = max(0.0, sent[0] + self._options.window - now)
            return Fault("429", seconds, self._options.quota_details, quota, window=self._options.window)
        sent.append(now)
        return None

    def _count(self, key: str) -> int:
        """How often this text was asked before."""
        call = self._calls.pop(key, 0)
        self._calls[key] = call + 1
        if len(self._calls) > _REMEMBERED:
            self._calls.popitem(last=False)
        return call

    def _by_chance(self, model: str, asked: Asked, call: int) -> Fault | None:
        options = self._options
        # Drawn from the text and not from a common sequence: the order of arrival must not matter.
        drawn = random.Random(f"{options.seed}\0{model}\0{asked.digest}\0{call}").random()  # noqa: S311 - no secret
        for kind, rate, seconds in (
            ("429", options.rate_429, options.retry_after),
            ("500", options.rate_500, None),
            ("503", options.rate_503, None),
            ("slow", options.rate_slow, options.slow),
            ("malformed", options.rate_malformed, None),
            ("disconnect", options.rate_disconnect, None),
        ):
            if drawn < rate:
                return Fault(kind, seconds)
            drawn -= rate
        return None


def without_markers(text: str) -> str:
    """The text without the markers, so that an answer does not carry a fault on into the next prompt."""
    return _MARKER.sub("", text)


def _marked(text: str, call: int, model: str, tier: str) -> Fault | None:
    for match in _MARKER.finditer(text):
        kind = match[1]
        values = dict(item.split("=", 1) for item in match[2].split())
        if kind not in _KINDS and not (kind.isdigit() and int(kind) in STATUSES):
            continue
        if values.get("model", model) != model or values.get("tier", tier) != tier:
            continue
        if "times" in values and call >= int(_number(values["times"]) or 0):
            continue
        seconds = _number(values.get("seconds") or values.get("retry"))
        return Fault(kind, seconds, in_details=values.get("details") != "no", daily="daily" in values)
    return None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
