"""Limits as people see and change them: figures, what is used of each, and why a task waits for one."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from gemflowd.core import breaker, limits, quota
from gemflowd.core.turn import Turn
from gemflowd.engine.rows import Rows
from gemflowd.model.errors import Refused
from gemflowd.model.facts import AskLimits, SetLimit
from gemflowd.model.lane import Bucket
from gemflowd.model.limit import Breaker, Figures
from gemflowd.store.base import Store

Body = dict[str, Any]
#: Limits that have a row of their own because somebody gave them figures.
_MOST_GIVEN: Final = 10_000


def set_limit(rows: Rows, fact: SetLimit) -> Body:
    """Raises: Refused: `conflict`, there are too many."""
    turn = rows.turn
    bucket = turn.buckets.get(fact.name)
    if bucket is None:
        if sum(bool(one.given) for one in turn.buckets.values()) >= _MOST_GIVEN:
            raise Refused(
                "conflict", f"{_MOST_GIVEN} limits have been given figures; reset some of them first", "limit"
            )
        bucket = turn.buckets[fact.name] = Bucket(fact.name)
    ledger = bucket.ledger
    if fact.reset:
        bucket.given = {}
        ledger.learned, ledger.cap, ledger.unsaid, ledger.cut = {}, None, 0, 0.0
        ledger.parked, ledger.day_waited = False, 0.0
        ledger.breaker = Breaker()
        if bucket.asleep_until > turn.steady:
            bucket.asleep_until = turn.steady
            turn.changed_buckets[bucket.name] = bucket
    for name, value in fact.figures.items():
        ledger.learned.pop(name, None)
        if value is None:
            bucket.given.pop(name, None)
        else:
            bucket.given[name] = value
    bucket.figures = None
    figures = limits.figures_of(turn, bucket)
    if not figures.breaker:
        ledger.breaker = Breaker()
    if "zone" in fact.figures or fact.reset:
        quota.turn_day(ledger, figures, turn.now)
    for one in turn.buckets.values():
        limits.release(one)
    rows.store.limits.give(bucket)
    limits.changed(turn, bucket)
    turn.events.append(limits.event(turn, bucket, "reset" if fact.reset else "set", figures=dict(bucket.given)))
    return {"limits": [_shown(rows, bucket)]}


def forget_empty(turn: Turn, store: Store) -> None:
    """At a start: limits of which nothing would be missed any more leave no row. Models come and go by what people type."""
    empty = []
    for bucket in turn.buckets.values():
        ledger, figures = bucket.ledger, limits.figures_of(turn, bucket)
        kept = {window.figure: window for window in quota.windows(figures)}
        ledger.logs = {figure: log for figure, log in ledger.logs.items() if figure in kept}
        for figure, log in ledger.logs.items():
            quota.expire(log, kept[figure].seconds, turn.steady)
        awake = bucket.asleep_until <= turn.steady and not bucket.in_flight
        if awake and quota.is_empty(ledger, turn.now):
            empty.append(bucket.name)
    store.limits.forget(empty)
    for name in empty:
        if not turn.buckets[name].given:
            del turn.buckets[name]


def ask_limits(rows: Rows, fact: AskLimits) -> Body:
    """Raises: Refused: `not_found`."""
    turn = rows.turn
    for name in turn.rules.limits:
        turn.buckets.setdefault(name, Bucket(name))
    if fact.name is None:
        return {"limits": [_shown(rows, bucket) for _, bucket in sorted(turn.buckets.items())]}
    bucket = turn.buckets.get(fact.name)
    if bucket is None:
        raise Refused("not_found", f"there is no limit {fact.name!r} yet; `limits` lists them", "limit")
    if fact.priority is None:
        return {"limits": [_shown(rows, bucket)]}
    return {"reasons": _reasons(rows, bucket, fact.priority, fact.size)}


def _shown(rows: Rows, bucket: Bucket) -> Body:
    turn, ledger = rows.turn, bucket.ledger
    figures = limits.figures_of(turn, bucket)
    quota.roll(ledger, figures, turn.now)
    wall = turn.now - turn.steady
    it = ledger.breaker
    group = {bucket.name: bucket}
    in_flight = sum(
        one.in_flight for name, one in turn.buckets.items() if name in group or name.startswith(f"{bucket.name}:")
    )
    return {
        "limit": bucket.name,
        "in_flight": in_flight,
        "asleep_until": bucket.asleep_until + wall if bucket.asleep_until > turn.steady else None,
        "parked_until": ledger.day[1] if ledger.parked else None,
        "cap": None if ledger.cap is None else int(ledger.cap),
        "breaker": {
            "state": "closed" if breaker.closed(it) else "open" if it.until > turn.steady else "half-open",
            "failures": it.failures,
            "until": it.until + wall if it.until > turn.steady else None,
        },
        "used": _used(turn.steady, bucket, figures, in_flight),
        "figures": {
            field.name: {"value": getattr(figures, field.name), "origin": _origin(rows, bucket, field.name)}
            for field in dataclasses.fields(Figures)
        },
    }


def _used(now: float, bucket: Bucket, figures: Figures, in_flight: int) -> Body:
    """What is used of each figure that counts something; of the minutes also where there is no limit."""
    used: Body = {window.figure: _number(quota.used(bucket.ledger, window, now)) for window in quota.windows(figures)}
    used["rpd"] = bucket.ledger.day_count
    if figures.in_flight is not None:
        used["in_flight"] = in_flight
    return used


def _number(value: float) -> float:
    """Requests and tokens are whole; costs are rounded to what they are kept with."""
    return round(value) if value >= 1000 or abs(value - round(value)) < 1e-6 else round(value, 6)


def _origin(rows: Rows, bucket: Bucket, figure: str) -> str:
    if figure in bucket.given:
        return "run time"
    if figure in rows.turn.rules.limits.get(bucket.name, {}):
        return "settings"
    return "learned" if figure in bucket.ledger.learned else "default"


def _reasons(rows: Rows, bucket: Bucket, priority: int, size: int) -> list[Body]:
    """What keeps a task of it, the nearest first."""
    turn, it = rows.turn, bucket.ledger.breaker
    found: list[Body] = []
    wall = turn.now - turn.steady
    if bucket.asleep_until > turn.steady:
        message = f"the limit {bucket.name} sleeps: the other side said so"
        until = bucket.asleep_until + wall
        found.append({"code": "limit_asleep", "bucket": bucket.name, "until": until, "message": message})
    if not breaker.lets_through(it, turn.steady):
        if it.until > turn.steady:
            message = (
                f"{it.failures} calls of {bucket.name} in a row have failed; one tries again when the pause is over"
            )
        else:
            message = f"{it.failures} calls of {bucket.name} in a row have failed; task {it.probe} tries whether it works again"
        tries = it.until + wall if it.until > turn.steady else None
        about: Body = {"bucket": bucket.name, "failures": it.failures, "until": tries}
        found.append({"code": "limit_breaker", **about, "message": message})
    waits = limits.why(turn, bucket, priority, size)
    if waits is not None:
        one, wait = waits
        figures = limits.figures_of(turn, one)
        figure = wait.figure
        ends = wait.wall if wait.wall is not None else None if wait.until is None else wait.until + wall
        limit: float | None = getattr(figures, figure, None)
        if figure == "cap":
            limit = int(one.ledger.cap or 0)
            message = f"{one.name} has complained of too many calls; {limit} at a time are tried"
        elif one.ledger.parked and figure == "rpd":
            message = f"{one.name} says that the requests of this day are used up"
        else:
            message = f"the {figure} of {one.name} are used up"
        fields: Body = {"bucket": one.name, "figure": figure, "limit": limit, "until": ends}
        reserved = (
            figures.reserve > 0
            and priority < figures.reserve_from
            and limits.why(turn, bucket, figures.reserve_from, size) is None
        )
        if reserved:
            message += f", but for what is kept for priorities from {figures.reserve_from} on"
        found.append({"code": "limit_reached", **fields, "message": message})
    return found
