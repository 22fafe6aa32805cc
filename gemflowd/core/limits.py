"""Limits that several tasks share: reserved when an attempt starts, settled when it ends.

One limit so far: a bucket that the other side put to sleep (429). Rates and budgets hook into the same two calls.
"""

from __future__ import annotations

from typing import Final

from gemflowd.core.turn import Turn
from gemflowd.model.attempt import Ended, Outcome
from gemflowd.model.event import LIMIT_TOPIC, Event
from gemflowd.model.lane import Bucket, Lane

#: Seconds that a bucket sleeps when the server said "too many" but not for how long.
DEFAULT_SLEEP: Final = 5.0
#: "Again at once" is not believed: it would be a loop of attempts.
MIN_SLEEP: Final = 0.05
#: A server's word is believed up to a day: quotas per day turn at midnight.
MAX_SLEEP: Final = 86_400.0


def bucket_of(turn_buckets: dict[str, Bucket], lane: Lane) -> Bucket | None:
    name = lane.key.bucket
    return None if name is None else turn_buckets.setdefault(name, Bucket(name))


def may_start(buckets: dict[str, Bucket], lane: Lane, now: float) -> bool:
    """Whether anything of the lane may start now."""
    if not lane.open:
        return False
    bucket = bucket_of(buckets, lane)
    return bucket is None or bucket.asleep_until <= now


def reserve(turn: Turn, lane: Lane) -> None:
    """An attempt starts."""
    bucket = bucket_of(turn.buckets, lane)
    if bucket is not None:
        bucket.in_flight += 1


def sleep_of(ended: Ended) -> float:
    """Seconds that the other side asked for, within reason."""
    return DEFAULT_SLEEP if ended.retry_after is None else max(MIN_SLEEP, min(ended.retry_after, MAX_SLEEP))


def settle(turn: Turn, lane: Lane, ended: Ended) -> None:
    """An attempt ended: give back what it reserved, and sleep if the other side asked for it."""
    bucket = bucket_of(turn.buckets, lane)
    if bucket is None:
        return
    bucket.in_flight -= 1
    if ended.outcome is not Outcome.RATE_LIMITED:
        return
    until = turn.now + sleep_of(ended)
    if until > bucket.asleep_until:
        bucket.asleep_until = until
        turn.changed_buckets[bucket.name] = bucket
        turn.events.append(Event(LIMIT_TOPIC, {"bucket": bucket.name, "until": until}))
