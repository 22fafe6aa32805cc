"""Limits that several tasks share: reserved when an attempt starts, settled when it ends.

A bucket with its quota (`quota`) and its breaker (`breaker`), or that the other side put to sleep (429); a queue that is paused or
has a limit, named resources, GPUs. A bucket `gemini:flash` also counts for the limit `gemini`, where somebody has given that one
figures: what a project may do in all. A lane without a bucket pays nothing for any of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgpack

from gemflowd.core import breaker, quota
from gemflowd.core.batched import asked_nobody
from gemflowd.core.lanes import Key
from gemflowd.core.turn import Turn
from gemflowd.model.attempt import Ended, Outcome
from gemflowd.model.event import LIMIT_TOPIC, Event
from gemflowd.model.lane import GPU, Blocked, Bucket, Lane, amounts
from gemflowd.model.limit import FIGURES, Figures, Sent
from gemflowd.model.prices import NANO
from gemflowd.model.task import Task

#: Seconds that a bucket sleeps when the server said "too many" but not for how long; doubled when it says so again and again.
DEFAULT_SLEEP: Final = 5.0
#: The same when it says that the day's are used up.
DAY_SLEEP: Final = 60.0
#: "Again at once" is not believed: it would be a loop of attempts.
MIN_SLEEP: Final = 0.05
#: A server's word is believed up to a day: quotas per day turn at midnight.
MAX_SLEEP: Final = 86_400.0
_MOST_DOUBLED: Final = 6
_MUCH: Final = 1e9
#: Sleeping for more than these is long for a task that could go elsewhere.
LONG: Final = 600.0
#: Names of quotas that one 429 is asked for.
_MOST_QUOTAS: Final = 16
#: What is left of a resource when fractions were added and taken away again.
_DUST: Final = 1e-9


def bucket_of(buckets: dict[str, Bucket], lane: Lane) -> Bucket | None:
    name = lane.key.bucket
    return None if name is None else buckets.get(name) or buckets.setdefault(name, Bucket(name))


def may_start(turn: Turn, lane: Lane) -> bool:
    """Whether anything of the lane may start now."""
    bucket = bucket_of(turn.buckets, lane)
    return (bucket is None or _awake(turn, bucket)) and has_place(turn, lane)


def has_place(turn: Turn, lane: Lane) -> bool:
    """The same but for the lane's limit: its gate, its queue, and what else it needs."""
    if not lane.open:
        return False
    queue = turn.queues.get(lane.key.queue)
    if queue is not None and (queue.paused or (queue.most is not None and queue.running >= queue.most)):
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


# The figures of a bucket


def figures_of(turn: Turn, bucket: Bucket) -> Figures:
    """Those in force: what was set at run time, over the settings, over what was learned."""
    if bucket.figures is None or bucket.figures_of is not turn.rules.limits or turn.steady >= bucket.figures_until:
        learned = quota.believed(bucket.ledger, turn.steady)
        ages = [one.at for one in bucket.ledger.learned.values()]
        bucket.figures_until = min(ages) + quota.LEARNED_FOR if ages else math.inf
        given = {**turn.rules.limits.get(bucket.name, {}), **bucket.given}
        if "requests" in given or "tokens" in given:
            learned = {name: value for name, value in learned.items() if name not in ("requests", "tokens", "per")}
        told = {name: FIGURES[name].kind(value) for name, value in learned.items()}
        bucket.figures = Figures(**{**told, **given})
        bucket.figures_of = turn.rules.limits
    return bucket.figures


def changed(turn: Turn, bucket: Bucket) -> None:
    """Its ledger is to be written at the end of the turn."""
    turn.changed_ledgers[bucket.name] = bucket


def group_of(turn: Turn, name: str) -> Bucket | None:
    """The limit for all that begin with the same word and a colon, where somebody has given it figures."""
    word, colon, _ = name.partition(":")
    if not colon:
        return None
    group = turn.buckets.get(word)
    if (group is not None and group.given) or word in turn.rules.limits:
        return group or turn.buckets.setdefault(word, Bucket(word))
    return None


def _ledgers(turn: Turn, bucket: Bucket) -> Iterator[tuple[Bucket, Figures, int]]:
    """What one attempt counts for: each limit with its figures, and how many of it are in flight."""
    yield bucket, figures_of(turn, bucket), bucket.in_flight
    group = group_of(turn, bucket.name)
    if group is not None:
        figures = figures_of(turn, group)
        yield group, figures, group_in_flight(turn, group) if figures.in_flight is not None else 0


def group_in_flight(turn: Turn, group: Bucket) -> int:
    begin = f"{group.name}:"
    return group.in_flight + sum(one.in_flight for name, one in turn.buckets.items() if name.startswith(begin))


# Before a start


def _awake(turn: Turn, bucket: Bucket) -> bool:
    """Whether anything of the bucket may start, as far as that can be told without looking at a task. The cheap ones first."""
    if bucket.asleep_until > turn.steady:
        return False
    if not breaker.lets_through(bucket.ledger.breaker, turn.steady):
        return False
    for one, figures, in_flight in _ledgers(turn, bucket):
        if figures.in_flight is not None and in_flight >= figures.in_flight:
            return False
        if one.ledger.cap is not None and in_flight >= max(1.0, one.ledger.cap):
            return False
    return True


def blocks(turn: Turn, bucket: Bucket, key: Key, head_of_blocked: Key | None) -> bool:
    """Whether a ready task has to wait behind the one of its bucket that waits for the limit.

    Args:
        key: where the task stands.
        head_of_blocked: the first of that one's lane now: another one, when it has gone.
    """
    blocked = bucket.blocked
    if blocked is None:
        return False
    over = turn.steady >= bucket.wakes or (bucket.wakes_wall and turn.now >= bucket.wakes_wall)
    if over or head_of_blocked != blocked.key or bucket.figures_of is not turn.rules.limits:
        bucket.blocked = None
        return False
    return key >= blocked.key


def admit(turn: Turn, lane: Lane, task: Task, key: Key) -> bool:
    """Whether the limit has room for this very task. If not, who comes after it waits with it, and the bucket knows until when."""
    bucket = bucket_of(turn.buckets, lane)
    if bucket is None:
        return True
    if bucket.blocked is not None and key >= bucket.blocked.key:
        return False
    if not breaker.lets_through(bucket.ledger.breaker, turn.steady):
        return False
    found = why(turn, bucket, task.priority, task.size)
    if found is None:
        return True
    bucket.blocked = Blocked(lane.number, key)
    until, wall = found[1].until, found[1].wall
    bucket.wakes = math.inf if until is None else until  # else the end of a call, or the day's
    bucket.wakes_wall = wall or 0.0
    return False


def why(turn: Turn, bucket: Bucket, priority: int, size: int) -> tuple[Bucket, quota.Wait] | None:
    """What a task of that priority, and that many bytes, would have to wait for: the limit that keeps it longest. None: nothing."""
    longest: tuple[Bucket, quota.Wait] | None = None
    for one, figures, in_flight in _ledgers(turn, bucket):
        needed, _ = quota.need(one.ledger, size)
        high = priority >= figures.reserve_from
        found = quota.wait(one.ledger, figures, needed, in_flight, high=high, now=turn.steady, wall=turn.now)
        if found is not None and (longest is None or _later(found, longest[1])):
            longest = one, found
    return longest


def is_away(turn: Turn, name: str, priority: int) -> bool:
    """Whether a limit lets nothing of that priority start for long: its day is used up, or the other side has said so."""
    bucket = turn.buckets.get(name) or turn.buckets.setdefault(name, Bucket(name))
    return bucket.asleep_until > turn.steady + LONG or any(
        quota.day_is_over(one.ledger, figures, high=priority >= figures.reserve_from, wall=turn.now)
        for one, figures, _ in _ledgers(turn, bucket)
    )


def _later(one: quota.Wait, other: quota.Wait) -> bool:
    if one.wall is not None or other.wall is not None:
        return other.wall is None
    return other.until is None or (one.until is not None and one.until > other.until)


def waking(bucket: Bucket) -> tuple[float, ...]:
    """The moments, by the steady clock, at which something of the bucket may start that may not now; some are over."""
    return (bucket.asleep_until, bucket.ledger.breaker.until, bucket.wakes if bucket.wakes < math.inf else 0.0)


def room(turn: Turn, name: str, priority: int | None = None) -> int:
    """How many of a limit may start now at most, of that priority; None: whatever theirs."""
    bucket = turn.buckets.get(name) or turn.buckets.setdefault(name, Bucket(name))
    left = 1.0 if _awake(turn, bucket) else 0.0
    if left and breaker.closed(bucket.ledger.breaker):
        left = min(
            quota.room(
                one.ledger,
                figures,
                in_flight,
                high=priority is None or priority >= figures.reserve_from,
                now=turn.steady,
                wall=turn.now,
            )
            for one, figures, in_flight in _ledgers(turn, bucket)
        )
    return int(min(left, _MUCH) + _DUST)


class Room:
    """How many tasks of each lane may still be taken, while some are being picked and none has been started yet.

    Args:
        priority: of all of them; None: there may be any.
    """

    def __init__(self, turn: Turn, lanes: Mapping[int, Lane], priority: int | None = None) -> None:
        self._turn = turn
        self._priority = priority
        self._lanes = lanes
        self._queues = {
            queue.name: queue.most - queue.running for queue in turn.queues.values() if queue.most is not None
        }
        self._resources = {
            name: total + _DUST - turn.used.get(name, 0.0) for name, total in turn.rules.resources.items()
        }
        self._devices = turn.devices.copy()
        self._taken = 0
        self._buckets: dict[str, float] = {}

    def take(self, lane: int) -> bool:
        key = self._lanes[lane].key
        left = self._queues.get(key.queue)
        if left is not None and left <= 0:
            return False
        if key.bucket is not None and self._of_bucket(key.bucket) < 1.0 - _DUST:
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
        if key.bucket is not None:
            self._buckets[key.bucket] -= 1.0
        return True

    def _of_bucket(self, name: str) -> float:
        """How many of it may still be taken. At least one: why it may not start is found out where the task is known (`admit`)."""
        left = self._buckets.get(name)
        if left is None:
            left = self._buckets[name] = max(1.0, room(self._turn, name, self._priority))
        return left


def reserve(turn: Turn, lane: Lane, task: int, size: int = 0) -> None:
    """An attempt starts. `size`: bytes of its data."""
    bucket = _count(turn, lane, 1)
    if bucket is not None:
        for one, figures, _ in _ledgers(turn, bucket):
            one.sent[task] = quota.send(one.ledger, figures, size, now=turn.steady, wall=turn.now)
            changed(turn, one)
        breaker.sent(bucket.ledger.breaker, task)
    if needed := gpus(lane):
        turn.devices.take(task, needed)


def _count(turn: Turn, lane: Lane, change: int) -> Bucket | None:
    bucket = bucket_of(turn.buckets, lane)
    if bucket is not None:
        bucket.in_flight += change
    queue = turn.queues.get(lane.key.queue)
    if queue is not None:
        queue.running += change
    for name, amount in amounts(lane.key.resources):
        turn.used[name] = turn.used.get(name, 0.0) + change * amount
    return bucket


# After it


def sleep_of(ended: Ended) -> float:
    """Seconds that the other side asked for, within reason."""
    return DEFAULT_SLEEP if ended.retry_after is None else max(MIN_SLEEP, min(ended.retry_after, MAX_SLEEP))


def give_back(turn: Turn, lane: Lane, task: int) -> None:
    """What was handed over comes back and was never sent."""
    bucket = _count(turn, lane, -1)
    turn.devices.free(task)
    if bucket is not None:
        _unsend(turn, bucket, task)


def _counted(turn: Turn, bucket: Bucket, task: int) -> Iterator[tuple[Bucket, Sent]]:
    """What an attempt has counted for, which is over: also a limit that has had its figures taken away since."""
    for name in (bucket.name, bucket.name.partition(":")[0]):
        one = turn.buckets.get(name)
        if one is not None and (sent := one.sent.pop(task, None)) is not None:
            changed(turn, one)
            yield one, sent


def _unsend(turn: Turn, bucket: Bucket, task: int) -> None:
    for one, sent in _counted(turn, bucket, task):
        quota.unsend(one.ledger, sent)
    breaker.back(bucket.ledger.breaker, task)
    look_again(turn, bucket)


def settle(turn: Turn, lane: Lane, ended: Ended) -> None:
    """An attempt ended: give back what it reserved, count what it used, and do what the other side asks for."""
    bucket = _count(turn, lane, -1)
    turn.devices.free(ended.task)
    if bucket is None:
        return
    refused = ended.outcome is Outcome.RATE_LIMITED
    told = _told(ended.usage)
    idle = ended.task in turn.joined or ended.task in turn.unasked
    if idle or told.get("cached") is True or asked_nobody(lane, ended):
        # A stored answer, a batch's, or another one's refusal: nothing was sent.
        _unsend(turn, bucket, ended.task)
        return
    tokens, cost = _used(told)
    own = bucket.sent.get(ended.task)
    for one, sent in _counted(turn, bucket, ended.task):
        if refused:  # the other side has not counted it either; if it has, it says so again
            quota.unsend(one.ledger, sent)
        else:
            figures = figures_of(turn, one)
            quota.settle(one.ledger, figures, sent, tokens, cost, turn.steady - ended.seconds, ended.seconds)
            if ended.outcome is Outcome.DONE:
                quota.took(one.ledger, ended.seconds, turn.steady)
    error = _error(ended)
    if refused:
        _refused(turn, bucket, ended, error, own)
    elif ended.outcome is Outcome.DONE:
        quota.grow(bucket.ledger)
    _judge(turn, bucket, ended, error, own.at if own is not None else 0.0)
    look_again(turn, bucket)


def look_again(turn: Turn, bucket: Bucket) -> None:
    """Something was given back: who waits may fit now, also for the limit that several share."""
    others: Iterable[Bucket] = ()
    if group_of(turn, bucket.name) is not None:
        others = turn.buckets.values()
    for one in (bucket, *others):
        release(one)


def release(bucket: Bucket) -> None:
    """Whoever waits for it is looked at again."""
    bucket.blocked = None
    bucket.wakes = bucket.wakes_wall = 0.0


def _told(usage: bytes | None) -> Mapping[str, Any]:
    """What a handler has told of its use, with what the prices make of it."""
    told = msgpack.unpackb(usage, strict_map_key=False, unicode_errors="surrogatepass") if usage else None
    return told if isinstance(told, dict) else {}


def _used(told: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Input tokens and cost, as far as they are known. The prices' cost is in billionths."""
    nano = _amount(told.get("cost_nano"))
    cost = _amount(told.get("cost")) if nano is None else nano / NANO
    return _amount(told.get("prompt_tokens")), cost


def _amount(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15
    return float(value) if good else None


def _error(ended: Ended) -> dict[str, Any]:
    if ended.outcome is Outcome.DONE or not ended.payload:
        return {}
    try:
        error = msgpack.unpackb(ended.payload, strict_map_key=False)
    except ValueError:
        return {}  # it is kept as it is, and says nothing here
    return error if isinstance(error, dict) else {}


def _refused(turn: Turn, bucket: Bucket, ended: Ended, error: Mapping[str, Any], sent: Sent | None) -> None:
    """A 429: learn what it teaches, and pause the bucket as a whole."""
    ledger = bucket.ledger
    told = error.get("quota")
    quotas = (
        [quota.quota_of(one) for one in told[:_MOST_QUOTAS] if isinstance(one, dict)] if isinstance(told, list) else []
    )
    daily = any(one.daily for one in quotas) or error.get("code") == "daily_quota"
    if news := quota.learn(ledger, quotas, turn.steady):
        bucket.figures = None
        figures = figures_of(turn, bucket)
        turn.events.append(event(turn, bucket, "learned", figures={name: getattr(figures, name) for name in news}))
    sleep = _sleep(turn, bucket, ended, daily=daily)
    if daily:
        quota.roll(ledger, figures_of(turn, bucket), turn.now)
        was = ledger.parked
        if quota.day_used_up(ledger, sent, turn.steady + sleep) and not was:
            turn.events.append(event(turn, bucket, "parked"))
    elif not any(one.figure is not None and one.value is not None for one in quotas):
        quota.cut(ledger, turn.steady if sent is None else sent.at, bucket.in_flight + 1, turn.steady)
    put_to_sleep(turn, bucket, sleep)
    changed(turn, bucket)


def _sleep(turn: Turn, bucket: Bucket, ended: Ended, *, daily: bool) -> float:
    """Seconds; where the other side did not say, longer each time, but once for all that were on their way together."""
    ledger = bucket.ledger
    if ended.retry_after is not None:
        ledger.unsaid = 0
        return sleep_of(ended)
    if daily:
        return DAY_SLEEP
    if bucket.asleep_until > turn.steady:
        return 0.0
    sleep: float = DEFAULT_SLEEP * 2.0 ** min(ledger.unsaid, _MOST_DOUBLED)
    ledger.unsaid += 1
    return sleep


def _judge(turn: Turn, bucket: Bucket, ended: Ended, error: Mapping[str, Any], sent_at: float) -> None:
    """Let the breaker know."""
    it = bucket.ledger.breaker
    breaker.back(it, ended.task)
    verdict = breaker.verdict_of(it, ended.outcome, str(error.get("code")))
    if breaker.note(it, verdict, sent_at, turn.steady, figures_of(turn, bucket)):
        if breaker.closed(it):
            turn.events.append(event(turn, bucket, "breaker_closed"))
        else:
            fields = {"failures": it.failures, "code": str(error.get("code"))}
            turn.events.append(event(turn, bucket, "breaker_open", **fields))
    changed(turn, bucket)


def stopped_until(bucket: Bucket, steady: float, now: float) -> float:
    """Until when, by the wall clock, nothing of it starts at all; `now` where something may. Of its figures' windows it says nothing."""
    ledger = bucket.ledger
    sleeps = max(bucket.asleep_until, ledger.breaker.until) - steady
    parked = ledger.day[1] if ledger.parked and ledger.day[0] <= now < ledger.day[1] else now
    return max(now, now + sleeps, parked)


def is_asleep(turn: Turn, lane: Lane) -> bool:
    """Whether the limit of a lane was put to sleep by the other side."""
    bucket = turn.buckets.get(lane.key.bucket or "")
    return bucket is not None and bucket.asleep_until > turn.steady


def event(turn: Turn, bucket: Bucket, what: str, **fields: Any) -> Event:
    """`until`: when anything of it may start again, for whatever reason it may not; now, where it may."""
    until = stopped_until(bucket, turn.steady, turn.now)
    return Event(LIMIT_TOPIC, {"bucket": bucket.name, "what": what, "until": until, **fields})


def put_to_sleep(turn: Turn, bucket: Bucket, sleep: float) -> None:
    """Nothing of it starts for that many seconds. One that sleeps for longer already goes on sleeping."""
    if sleep and turn.steady + sleep > bucket.asleep_until:
        bucket.asleep_until = turn.steady + sleep
        turn.changed_buckets[bucket.name] = bucket
        turn.events.append(event(turn, bucket, "asleep"))
