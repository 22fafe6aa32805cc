"""The ledger of one limit: what was sent in its windows and today, what that leaves, and what a 429 teaches. Pure.

A window is a log of send times and not a bucket of tokens: a server that counts what arrives in any minute lets nobody through who
has sent a minute's worth and then goes on at the same rate, and a bucket that is full at the start allows just that. Everything
counts from its sending on, and until a little (`margin`) after the window: what was sent last may arrive sooner than what was
sent first. An attempt of which nobody tells the outcome has been sent all the same.

Durations go by the steady clock (`now`), the day by the wall clock (`wall`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from gemflowd.model.limit import Figures, Learned, Ledger, Log, Sent

#: A log has at most about so many cells: what is sent within a part of the window leaves it together.
CELLS: Final = 256
#: Seconds for which a figure that was learned is believed: a quota that was raised would not be noticed otherwise.
LEARNED_FOR: Final = 86_400.0
#: What is left of the calls in flight at a complaint that names no quota.
_CUT: Final = 0.7
#: Above this a cap that was found out is none.
_MOST_CAP: Final = 100_000.0
#: Bytes of a task's data for a token, before anything is known.
_BYTES_A_TOKEN: Final = 4.0
_RATIOS: Final = (0.02, 50.0)
_WEIGHT: Final = 0.1
_DUST: Final = 1e-9
#: Of a window: as much of a call's time is taken for time on its way at most. And by how much the fastest call grows with each other.
_LATE: Final = 0.03
_SLOWER: Final = 1.001
#: The same of calls that were sent before any had ended: their connections are made, and nobody knows yet what is slow.
_COLD: Final = 0.035
_PER: Final = re.compile(r"Per(\d{0,6})(Second|Minute|Hour|Day)")
_UNITS: Final = {"Second": 1.0, "Minute": 60.0, "Hour": 3600.0, "Day": 86_400.0}
_DAY: Final = 86_400.0
_MINUTE: Final = 60.0
#: Seconds of the window in which `spend` counts.
SPEND_SECONDS: Final = 600.0


class Window(NamedTuple):
    """One figure that counts within a rolling window of `seconds`. `limit` None: it is counted and not limited."""

    figure: str
    what: str  # requests, tokens or cost
    seconds: float
    limit: float | None


class Need(NamedTuple):
    """What one attempt would take."""

    requests: float
    tokens: float
    cost: float

    def of(self, window: Window) -> float:
        return float(getattr(self, window.what))


class Wait(NamedTuple):
    """Why nothing more may start. Until when: by the steady clock, or for the day by the wall clock; None: until a call ends."""

    figure: str
    until: float | None
    wall: float | None = None


def margin(seconds: float) -> float:
    """Seconds for which what was sent counts longer than the window: by so much may two calls take differently long on their way."""
    return min(1.0, max(0.05, 0.01 * seconds))


def windows(figures: Figures) -> list[Window]:
    """Those that limit, and the minutes of requests and tokens in any case: who sets a figure later wants to know what was."""
    found = [
        Window("rpm", "requests", _MINUTE, figures.rpm),
        Window("tpm", "tokens", _MINUTE, figures.tpm),
    ]
    if figures.requests is not None:
        found.append(Window("requests", "requests", figures.per, figures.requests))
    if figures.tokens is not None:
        found.append(Window("tokens", "tokens", figures.per, figures.tokens))
    if figures.spend is not None:
        found.append(Window("spend", "cost", SPEND_SECONDS, figures.spend))
    return found


def limits_of(figures: Figures) -> list[Window]:
    return [window for window in windows(figures) if window.limit is not None]


# The logs


def expire(log: Log, seconds: float, now: float) -> None:
    """Forget what the window has passed."""
    cells, kept = log.cells, seconds + margin(seconds)
    while cells and cells[0][1] + kept <= now:
        log.total -= cells.popleft()[2]
    if not cells:
        log.total = 0.0  # fractions leave nothing behind


def used(ledger: Ledger, window: Window, now: float) -> float:
    """What was sent in the window that ends now."""
    log = _log(ledger, window, now)
    expire(log, window.seconds, now)
    return log.total


def _add(log: Log, seconds: float, now: float, amount: float) -> None:
    cells = log.cells
    if cells and now - cells[-1][0] < seconds / CELLS:
        cells[-1][1] = max(now, cells[-1][1])
        cells[-1][2] += amount
    else:
        cells.append([now, now, amount])
    log.total += amount


def _correct(log: Log, at: float, change: float) -> None:
    """What was sent at that time was more or less than thought."""
    for cell in reversed(log.cells):
        if cell[0] <= at <= cell[1]:
            change = max(change, -cell[2])
            cell[2] += change
            log.total += change
            return


def _move(log: Log, seconds: float, at: float, later: float, amount: float) -> float:
    """So much of what counts for one time was really sent later. Returns the time for which it counts now."""
    cells, part = log.cells, seconds / CELLS
    for index in range(len(cells) - 1, -1, -1):
        if cells[index][0] <= at <= cells[index][1]:
            break
    else:
        return at
    if later <= cells[index][1]:
        return at
    amount = min(amount, cells[index][2])
    cells[index][2] -= amount
    after = index + 1
    while after < len(cells) and cells[after][0] <= later:
        after += 1
    nearest = cells[after - 1]
    if after - 1 > index and later - nearest[0] < part:
        nearest[1] = max(nearest[1], later)
        nearest[2] += amount
    else:
        cells.insert(after, [later, later, amount])
    if cells[index][2] <= _DUST:
        del cells[index]
    return later


def _free_at(ledger: Ledger, window: Window, limit: float, amount: float, now: float) -> float:
    """The earliest time at which so much more may be sent. What is more than the whole limit waits until the window is empty."""
    log = _log(ledger, window, now)
    expire(log, window.seconds, now)
    over = log.total + min(amount, limit) - limit
    if over <= _DUST * max(1.0, limit):
        return now
    at = now
    for _, last, held in log.cells:
        over -= held
        at = last + window.seconds + margin(window.seconds)
        if over <= _DUST * max(1.0, limit):
            break
    return at


def _log(ledger: Ledger, window: Window, now: float) -> Log:
    """That window's log; a new one begins with what another one knows of the same."""
    log = ledger.logs.get(window.figure)
    if log is None:
        log = ledger.logs[window.figure] = Log()
        other = {"requests": "rpm", "tokens": "tpm"}.get(window.figure)
        if other is not None and other in ledger.logs:
            for cell in ledger.logs[other].cells:
                log.cells.append(list(cell))
                log.total += cell[2]
            expire(log, window.seconds, now)
    return log


# The day


def roll(ledger: Ledger, figures: Figures, wall: float) -> None:
    """A new day counts anew."""
    begin, end = ledger.day
    if begin <= wall < end:
        return
    zone = ZoneInfo(figures.zone)
    date = datetime.fromtimestamp(wall, zone).date()
    midnights = [
        datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() for day in (date, date + timedelta(days=1))
    ]
    ledger.day = (midnights[0], midnights[1])
    ledger.day_count, ledger.parked, ledger.day_waited = 0, False, 0.0


def turn_day(ledger: Ledger, figures: Figures, wall: float) -> None:
    """The day turns in another zone, perhaps. What was counted today goes on counting: it was sent on either one's day, or just before."""
    begin, end = ledger.day
    if begin <= wall < end:
        counted = ledger.day_count, ledger.parked, ledger.day_waited
        ledger.day = (0.0, 0.0)
        roll(ledger, figures, wall)
        ledger.day_count, ledger.parked, ledger.day_waited = counted


# Before an attempt


def need(ledger: Ledger, size: int) -> tuple[Need, float]:
    """What an attempt is expected to take, by the bytes of its data; and the tokens that were guessed, uncorrected."""
    guess = size / _BYTES_A_TOKEN
    return Need(1.0, guess * ledger.ratio, ledger.mean_cost), guess


def share(limit: float, figures: Figures, *, high: bool) -> float:
    """What of a limit is for that priority. Something is for everybody, else they would wait for ever."""
    if high or not figures.reserve:
        return limit
    return max(min(limit, 1.0), limit * (1.0 - figures.reserve))


def _count(limit: float, figures: Figures, *, high: bool) -> float:
    """The same of what is counted in whole ones."""
    return float(math.floor(share(limit, figures, high=high) + _DUST))


def day_is_over(ledger: Ledger, figures: Figures, *, high: bool, wall: float) -> bool:
    """Whether the requests of the day are used up."""
    roll(ledger, figures, wall)
    return ledger.parked or (figures.rpd is not None and ledger.day_count >= _count(figures.rpd, figures, high=high))


def wait(
    ledger: Ledger, figures: Figures, needed: Need, in_flight: int, *, high: bool, now: float, wall: float
) -> Wait | None:
    """What an attempt would have to wait for, for the longest; None: nothing."""
    if day_is_over(ledger, figures, high=high, wall=wall):
        return Wait("rpd", None, ledger.day[1])
    longest: Wait | None = None
    for window in limits_of(figures):
        assert window.limit is not None
        limit = _count(window.limit, figures, high=high) if window.what == "requests" else share(
            window.limit, figures, high=high
        )  # fmt: skip
        at = _free_at(ledger, window, limit, needed.of(window), now)
        if at > now and (longest is None or longest.until is None or at > longest.until):
            longest = Wait(window.figure, at)
    if longest is not None:
        return longest
    if figures.in_flight is not None and in_flight >= _count(figures.in_flight, figures, high=high):
        return Wait("in_flight", None)
    if ledger.cap is not None and in_flight >= max(1.0, ledger.cap):
        return Wait("cap", None)
    return None


def room(ledger: Ledger, figures: Figures, in_flight: int, *, high: bool = True, now: float, wall: float) -> float:
    """How many more may start now at most; of tokens and costs by the mean of what was."""
    roll(ledger, figures, wall)
    if ledger.parked:
        return 0.0
    left = [math.inf]
    if figures.rpd is not None:
        left.append(_count(figures.rpd, figures, high=high) - ledger.day_count)
    if figures.in_flight is not None:
        left.append(_count(figures.in_flight, figures, high=high) - in_flight)
    if ledger.cap is not None:
        left.append(max(1.0, ledger.cap) - in_flight)
    for window in limits_of(figures):
        assert window.limit is not None
        mean = {"requests": 1.0, "tokens": ledger.mean_tokens, "cost": ledger.mean_cost}[window.what]
        if mean > 0:
            # Twice as many as fit by the mean, and one: the rest is looked at one by one (`wait`).
            free = (share(window.limit, figures, high=high) - used(ledger, window, now)) / mean
            left.append(free if window.what == "requests" else 2 * max(0.0, free) + 1)
    return max(0.0, min(left))


def send(ledger: Ledger, figures: Figures, size: int, *, now: float, wall: float) -> Sent:
    """An attempt starts."""
    roll(ledger, figures, wall)
    needed, guess = need(ledger, size)
    logs = [(_log(ledger, window, now), window) for window in windows(figures)]  # first: a new one looks at the others
    for log, window in logs:
        expire(log, window.seconds, now)
        _add(log, window.seconds, now, needed.of(window))
    ledger.day_count += 1
    return Sent(now, ledger.day[0], guess, needed.tokens, needed.cost)


# After it


def settle(
    ledger: Ledger, figures: Figures, sent: Sent, tokens: float | None, cost: float | None, began: float, seconds: float
) -> None:
    """It has ended.

    Args:
        tokens: what it has really used, None where nobody says; then what was reserved counts.
        cost: the same.
        began: when its worker began with it: between the decision to send it and that lies a commit, and may lie much else.
        seconds: how long it took. What is more than the fastest one takes may have passed before it arrived.
    """
    if tokens is not None and sent.guess > 0 and tokens > 0:
        ratio = min(max(tokens / sent.guess, _RATIOS[0]), _RATIOS[1])
        # The first one counts as it is, and one that took more than was reserved counts for much: too little is the worse mistake.
        weight = 1.0 if not ledger.mean_tokens else 0.5 if ratio > ledger.ratio else _WEIGHT
        ledger.ratio += weight * (ratio - ledger.ratio)
    taken = sent.tokens if tokens is None else tokens
    ledger.mean_tokens += (_WEIGHT if ledger.mean_tokens else 1.0) * (taken - ledger.mean_tokens)
    if cost is not None:
        ledger.mean_cost += (_WEIGHT if ledger.mean_cost else 1.0) * (cost - ledger.mean_cost)
    reserved = Need(1.0, sent.tokens, sent.cost)
    changes = Need(0.0, 0.0 if tokens is None else tokens - sent.tokens, 0.0 if cost is None else cost - sent.cost)
    for window in windows(figures):
        log = ledger.logs.get(window.figure)
        if log is not None:
            if sent.at <= ledger.first_done or not ledger.fastest:
                late = _COLD * window.seconds
            else:
                late = min(max(0.0, seconds - ledger.fastest), _LATE * window.seconds)
            at = _move(log, window.seconds, sent.at, began + late, reserved.of(window))
            _correct(log, at, changes.of(window))


def took(ledger: Ledger, seconds: float, now: float) -> None:
    """A call went well, in so many seconds. The fastest of late counts."""
    if not ledger.fastest:
        ledger.first_done = now
    ledger.fastest = seconds if not ledger.fastest else min(seconds, ledger.fastest * _SLOWER)


def unsend(ledger: Ledger, sent: Sent) -> None:
    """It was never sent, or did not count: all that it reserved is free again."""
    for figure, amount in (
        ("rpm", 1.0), ("requests", 1.0), ("tpm", sent.tokens), ("tokens", sent.tokens), ("spend", sent.cost),
    ):  # fmt: skip
        if figure in ledger.logs:
            _correct(ledger.logs[figure], sent.at, -amount)
    if ledger.day[0] == sent.day and ledger.day_count:
        ledger.day_count -= 1


def grow(ledger: Ledger) -> None:
    """A call went well: one more may be in flight for each round of them."""
    ledger.unsaid = 0
    if ledger.cap is not None:
        ledger.cap += 1.0 / max(1.0, ledger.cap)
        if ledger.cap > _MOST_CAP:
            ledger.cap = None


def cut(ledger: Ledger, sent_at: float, in_flight: int, now: float) -> None:
    """A complaint that names no quota. Of calls that were sent before the last cut it is no news."""
    if sent_at <= ledger.cut:
        return
    ledger.cut = now
    ledger.cap = max(1.0, _CUT * min(float(in_flight), ledger.cap or math.inf))


class Quota(NamedTuple):
    """A quota that a 429 names."""

    figure: str | None  # the one that it is; None: none of ours
    value: float | None
    per: float | None  # seconds, where the figure is `requests` or `tokens`

    @property
    def daily(self) -> bool:
        return self.figure == "rpd"


def quota_of(violation: Mapping[str, Any]) -> Quota:
    """What `{id, value}` of a 429 says, as Google writes it: `GenerateRequestsPerDayPerProjectPerModel-FreeTier`."""
    name = str(violation.get("id") or "")
    try:
        value = float(violation.get("value") or "nan")
    except (TypeError, ValueError):
        value = math.nan
    known = value if value >= 1 and math.isfinite(value) else None
    found = _PER.search(name)
    if found is None:
        return Quota(None, None, None)
    seconds = _UNITS[found[2]] * max(1, int(found[1] or 1))
    tokens = "Token" in name
    if seconds >= _DAY:
        return Quota("rpd", None if tokens else known, None)
    if seconds == _MINUTE:
        return Quota("tpm" if tokens else "rpm", known, None)
    return Quota("tokens" if tokens else "requests", known, seconds)


def learn(ledger: Ledger, quotas: Sequence[Quota], now: float) -> list[str]:
    """Take the other side's word for its figures. Returns the names of those that are new or another."""
    changed = []
    for quota in quotas:
        if quota.figure is None or quota.value is None:
            continue
        told = {quota.figure: quota.value} | ({"per": quota.per} if quota.per is not None else {})
        for figure, value in told.items():
            before = ledger.learned.get(figure)
            if before is None or before.value != value:
                changed.append(figure)
            ledger.learned[figure] = Learned(value, now)
    return changed


def believed(ledger: Ledger, now: float) -> dict[str, float]:
    """What was learned and is not too old."""
    ledger.learned = {name: one for name, one in ledger.learned.items() if now < one.at + LEARNED_FOR}
    return {name: one.value for name, one in ledger.learned.items()}


def day_used_up(ledger: Ledger, sent: Sent | None, until: float) -> bool:
    """A 429 is about the day. The first one is waited for as it says; one of a call that was sent after that wait means it.

    Args:
        sent: the call; None where nobody knows any more.
        until: when the wait that it asks for is over (steady).

    Returns:
        whether the day is used up.
    """
    if sent is not None and sent.day != ledger.day[0]:
        return ledger.parked  # it was yesterday's
    if ledger.day_waited and sent is not None and sent.at >= ledger.day_waited:
        ledger.parked = True
    elif sent is None or not ledger.day_waited:
        ledger.day_waited = until
    return ledger.parked


def is_empty(ledger: Ledger, wall: float) -> bool:
    """Whether nothing of it would be missed."""
    return (
        not any(log.cells for log in ledger.logs.values())
        and not ledger.learned
        and ledger.cap is None
        and not ledger.breaker.until
        and not (ledger.day[0] <= wall < ledger.day[1] and (ledger.day_count or ledger.parked))
    )
