"""The figures of a limit, and what is counted for it: nouns. `core.quota` and `core.breaker` decide with them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gemflowd.model.calls import plain_model

#: Where the day of a quota per day turns, unless a limit says otherwise: at midnight Pacific, as Google's does.
PACIFIC: Final = "America/Los_Angeles"
#: Names of limits, as the handlers' buckets make them.
MAX_NAME: Final = 400
#: What those begin with that are a model's.
_OF_MODELS: Final = frozenset({"gemini", "gemini.count"})


def plain_name(name: str) -> str:
    """A limit's name as the tasks that fall under it have it: that of a model without `models/`."""
    word, colon, model = name.partition(":")
    return f"{word}:{plain_model(model)}" if colon and word in _OF_MODELS else name


class Figure(NamedTuple):
    """One figure that a limit may have. `low` and `high` are the values that it may take; a zone has none."""

    kind: type
    low: float
    high: float
    doc: str


#: Every figure by its name.
FIGURES: Final[dict[str, Figure]] = {
    "rpm": Figure(int, 1, 1e9, "requests in any minute"),
    "tpm": Figure(int, 1, 1e12, "input tokens in any minute"),
    "rpd": Figure(int, 1, 1e12, "requests a day"),
    "spend": Figure(float, 1e-6, 1e9, "what calls may cost in any 10 minutes, in the currency of their prices"),
    "in_flight": Figure(int, 1, 1e6, "calls at a time"),
    "requests": Figure(int, 1, 1e9, "requests in any `per` seconds"),
    "tokens": Figure(int, 1, 1e12, "input tokens in any `per` seconds"),
    "per": Figure(float, 0.1, 86_400, "seconds, for `requests` and `tokens`"),
    "reserve": Figure(float, 0, 0.9, "share of all of these that is kept for high priorities"),
    "reserve_from": Figure(int, -32_768, 32_767, "the priority from which one is high"),
    "zone": Figure(str, 0, 0, "time zone in which the day of `rpd` turns"),
    "breaker": Figure(int, 0, 1e6, "failures of the other side in a row that stop it; 0: never"),
    "breaker_pause": Figure(float, 0.1, 86_400, "seconds until one call tries again; doubled while that fails"),
}


@dataclass(slots=True, frozen=True)
class Figures:
    """What a limit allows, by the names of `FIGURES`. None: as much as one likes."""

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    spend: float | None = None
    in_flight: int | None = None
    requests: int | None = None
    tokens: int | None = None
    per: float = 60.0
    reserve: float = 0.0
    reserve_from: int = 8
    zone: str = PACIFIC
    breaker: int = 10
    breaker_pause: float = 30.0


def check_figure(name: str, value: Any) -> Any:
    """The value in its type.

    Raises:
        KeyError: there is no such figure.
        ValueError: what is wrong with the value, as the end of a sentence.
    """
    figure = FIGURES[name]
    if figure.kind is str:
        from zoneinfo import ZoneInfo  # it brings much along, and few need it

        try:
            ZoneInfo(value)
        except (ValueError, TypeError, OSError, KeyError):
            raise ValueError(f"must be a time zone such as {PACIFIC}, not {value!r:.80}") from None
        return value
    whole = figure.kind is int
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or (whole and value != int(value)) or not figure.low <= value <= figure.high:
        what = "a whole number" if whole else "a number"
        raise ValueError(f"must be {what} from {figure.low:g} to {figure.high:g}, not {value!r:.80}")
    return figure.kind(value)


def check_figures(given: Mapping[str, Any]) -> dict[str, Any]:
    """Some figures of one limit, each in its type.

    Raises:
        ValueError: what is wrong, beginning with the name of the figure.
    """
    found = {}
    for name, value in given.items():
        if name not in FIGURES:
            raise ValueError(f"{name!r:.80} is no figure; there are {', '.join(FIGURES)}")
        try:
            found[name] = check_figure(name, value)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    return found


@dataclass(slots=True)
class Log:
    """What was sent within a window, by time. Neighbours are put together, so that it is short however many there were.

    `cells`: [time of the first, time of the last, amount], by the steady clock, in order.
    """

    cells: deque[list[float]] = field(default_factory=deque)
    total: float = 0.0


@dataclass(slots=True)
class Breaker:
    """Whether the other side is left alone, because everything fails there. Times by the steady clock."""

    failures: int = 0  # in a row
    last: float = 0.0  # when the last one was told
    opened: float = 0.0  # since when nothing is started
    until: float = 0.0  # when one call tries again; 0: it is closed
    pause: float = 0.0  # seconds, the last time
    probe: int | None = None  # the task that tries; not stored


class Learned(NamedTuple):
    """A figure that the other side has told, and when (steady)."""

    value: float
    at: float


@dataclass(slots=True)
class Ledger:
    """What is remembered of one limit, over restarts too. Times by the steady clock, but for the day's."""

    logs: dict[str, Log] = field(default_factory=dict)  # by figure
    learned: dict[str, Learned] = field(default_factory=dict)
    day: tuple[float, float] = (0.0, 0.0)  # its begin and end, by the wall clock
    day_count: int = 0  # requests
    parked: bool = False  # the other side says that the day's are used up
    day_waited: float = 0.0  # until when a 429 about the day made it wait; 0: none has
    cap: float | None = None  # calls in flight, as far as it was found out; None: nobody has complained
    cut: float = 0.0  # when that was last lowered
    unsaid: int = 0  # 429s in a row, one a generation, that did not say for how long
    ratio: float = 1.0  # tokens that were really used, over those that were guessed
    mean_tokens: float = 0.0  # of a request
    mean_cost: float = 0.0
    fastest: float = 0.0  # seconds of the fastest call of late; 0: there was none
    first_done: float = 0.0  # when the first one had gone well
    breaker: Breaker = field(default_factory=Breaker)


class Sent(NamedTuple):
    """What a running attempt has reserved."""

    at: float  # steady
    day: float  # the begin of the day in which it was sent
    guess: float  # tokens, before any correction
    tokens: float
    cost: float
