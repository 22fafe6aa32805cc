"""Limits that several tasks share: reserved when an attempt starts, given back when it ends.

A bucket that the other side put to sleep (429), a queue that is paused or has a limit, named resources, GPUs. Rates and budgets
hook into the same calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gemflowd.core.turn import Turn
from gemflowd.model.attempt import Ended, Outcome
from gemflowd.model.event import LIMIT_TOPIC, Event
from gemflowd.model.lane import GPU, Bucket, Lane, amounts

#: Seconds that a bucket sleeps when the server said "too many" but not for how long.
DEFAULT_SLEEP: Final = 5.0
#: "Again at once" is not believed: it would be a loop of attempts.
MIN_SLEEP: Final = 0.05
#: A server's word is believed up to a day: quotas per day turn at midnight.
MAX_SLEEP: Final = 86_400.0
#: What is left of a resource when fractions were added and taken away again.
_DUST: Final = 1e-9


def bucket_of(buckets: dict[str, Bucket], lane: Lane) -> Bucket | None:
    name = lane.key.bucket
    return None if name is None else buckets.setdefault(name, Bucket(name))


def may_start(turn: Turn, lane: Lane) -> bool:
    """Whether anything of the lane may start now."""
    if not lane.open:
        return False
    queue = turn.queues.get(lane.key.queue)
    if queue is not None and (queue.paused or (queue.most is not None and queue.running >= queue.most)):
        return False
    bucket = bucket_of(turn.buckets, lane)
    if bucket is not None and bucket.asleep_until > turn.steady:
        return False
    if not lane.key.resources:
        return True
    return devices_fit(turn, lane) and all(
        turn.used.get(name, 0.0) + amount <= turn.rules.resources.get(name, 0.0) + _DUST
        for name, amount in amounts(lane.key.resources)
    )


def gpus(lane: Lane) -> float:
    """How many of them each task of a lane needs, a share below 1."""
    return next((amount for name, amount in amounts(lane.key.resources) if name == GPU), 0.0)


def devices_fit(turn: Turn, lane: Lane) -> bool:
    """Whether there are devices for one more task of the lane: what is free in all may be spread over several."""
    return not (needed := gpus(lane)) or turn.devices.fits(needed)


class Room:
    """How many tasks of each lane may still be taken, while some are being picked and none has been started yet."""

    def __init__(self, turn: Turn, lanes: Mapping[int, Lane]) -> None:
        self._lanes = lanes
        self._queues = {
            queue.name: queue.most - queue.running for queue in turn.queues.values() if queue.most is not None
        }
        self._resources = {
            name: total + _DUST - turn.used.get(name, 0.0) for name, total in turn.rules.resources.items()
        }
        self._devices = turn.devices.copy()
        self._taken = 0

    def take(self, lane: int) -> bool:
        key = self._lanes[lane].key
        left = self._queues.get(key.queue)
        if left is not None and left <= 0:
            return False
        if key.resources:
            needs = amounts(key.resources)
            if any(self._resources.get(name, 0.0) < amount for name, amount in needs):
                return False
            if (needed := gpus(self._lanes[lane])) and not self._devices.fits(needed):
                return False
            self._taken -= 1  # no task's number
            self._devices.take(self._taken, needed)
            for name, amount in needs:
                self._resources[name] -= amount
        if left is not None:
            self._queues[key.queue] = left - 1
        return True


def reserve(turn: Turn, lane: Lane, task: int) -> None:
    """An attempt starts."""
    _count(turn, lane, 1)
    if needed := gpus(lane):
        turn.devices.take(task, needed)


def _count(turn: Turn, lane: Lane, change: int) -> None:
    bucket = bucket_of(turn.buckets, lane)
    if bucket is not None:
        bucket.in_flight += change
    queue = turn.queues.get(lane.key.queue)
    if queue is not None:
        queue.running += change
    for name, amount in amounts(lane.key.resources):
        turn.used[name] = turn.used.get(name, 0.0) + change * amount


def sleep_of(ended: Ended) -> float:
    """Seconds that the other side asked for, within reason."""
    return DEFAULT_SLEEP if ended.retry_after is None else max(MIN_SLEEP, min(ended.retry_after, MAX_SLEEP))


def settle(turn: Turn, lane: Lane, ended: Ended) -> None:
    """An attempt ended: give back what it reserved, and sleep if the other side asked for it."""
    _count(turn, lane, -1)
    turn.devices.free(ended.task)
    bucket = bucket_of(turn.buckets, lane)
    if bucket is None or ended.outcome is not Outcome.RATE_LIMITED:
        return
    put_to_sleep(turn, bucket, sleep_of(ended))


def put_to_sleep(turn: Turn, bucket: Bucket, sleep: float) -> None:
    """Nothing of it starts for that many seconds. One that sleeps for longer already goes on sleeping."""
    if turn.steady + sleep > bucket.asleep_until:
        bucket.asleep_until = turn.steady + sleep
        turn.changed_buckets[bucket.name] = bucket
        turn.events.append(Event(LIMIT_TOPIC, {"bucket": bucket.name, "until": turn.now + sleep}))
