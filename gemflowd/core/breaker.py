"""The breaker of a limit: after many failures in a row nothing starts but one call that tries, after a pause. Pure.

What counts is what the other side does to everybody: it is overloaded or can't be reached, or takes nobody's key. What a request
itself has caused says nothing, and a quota has ways of its own (`core.quota`).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from gemflowd.model.attempt import Outcome
from gemflowd.model.limit import Breaker, Figures

#: Codes of errors that the other side has for everybody.
STORM_CODES: Final = frozenset({
    "overloaded", "server_error", "timeout", "connection_failed", "disconnected",
    "unauthenticated", "permission_denied", "bad_api_key", "no_api_key",
})  # fmt: skip
#: Seconds without a failure after which those before are not "in a row" any more.
_FORGET: Final = 600.0
_MAX_PAUSE: Final = 600.0


class Verdict(Enum):
    """What an attempt says about the other side."""

    GOOD = 1
    BAD = 2
    NEITHER = 3


def verdict_of(breaker: Breaker, outcome: Outcome, code: str | None) -> Verdict:
    """Whoever answers is there, also with a 429. To the one that tries a no about its request alone is an answer, too."""
    if outcome is Outcome.DONE or outcome is Outcome.RATE_LIMITED:
        return Verdict.GOOD
    if outcome is Outcome.AGAIN and code not in STORM_CODES:
        return Verdict.GOOD  # it has answered; that the answer did not do is another matter
    if outcome in (Outcome.ERROR, Outcome.PERMANENT) and code in STORM_CODES:
        return Verdict.BAD
    return Verdict.GOOD if outcome is Outcome.PERMANENT and breaker.until else Verdict.NEITHER


def closed(breaker: Breaker) -> bool:
    return breaker.until == 0.0


def lets_through(breaker: Breaker, now: float) -> bool:
    """Whether a call may start: any, while it is closed; the one that tries, when the pause is over."""
    return breaker.until == 0.0 or (now >= breaker.until and breaker.probe is None)


def sent(breaker: Breaker, task: int) -> None:
    """A call starts that it has let through."""
    if breaker.until:
        breaker.probe = task


def back(breaker: Breaker, task: int) -> None:
    """The call of that task is over, whatever it says."""
    if breaker.probe == task:
        breaker.probe = None


def note(breaker: Breaker, verdict: Verdict, sent_at: float, now: float, figures: Figures) -> bool:
    """An attempt has ended. Returns whether the breaker has opened or closed.

    Args:
        sent_at: what was sent before the breaker opened says nothing about now.
    """
    if verdict is Verdict.NEITHER or (breaker.until and sent_at < breaker.until):
        return False
    if verdict is Verdict.GOOD:
        was_open = breaker.until != 0.0
        breaker.failures = 0
        breaker.until = breaker.opened = breaker.pause = 0.0
        return was_open
    if now - breaker.last > _FORGET and not breaker.until:
        breaker.failures = 0
    breaker.failures += 1
    breaker.last = now
    if not figures.breaker or (breaker.failures < figures.breaker and not breaker.until):
        return False
    breaker.pause = min(_MAX_PAUSE, max(figures.breaker_pause, 2 * breaker.pause))
    breaker.opened, breaker.until = now, now + breaker.pause
    return True
