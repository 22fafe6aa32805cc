"""The cache of model calls: who gets a stored answer, who makes the call, who waits for it; what is stored, and for how long.

An answer is the result of the attempt that made the call, and is stored in the transaction that records its outcome: there is no
moment in which only one of the two is durable. A use is counted with the end of the attempt that it served.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgpack

from gemflowd.core import limits
from gemflowd.engine.calls import Call, Member, Served, Waited
from gemflowd.engine.memory import Memory
from gemflowd.engine.rows import Rows, stale
from gemflowd.model.attempt import Ended, Outcome
from gemflowd.model.cache import Storing
from gemflowd.model.errors import Refused
from gemflowd.model.facts import BeginCall, LeaveCall
from gemflowd.model.prices import Prices, tokens_of
from gemflowd.model.rules import Rules
from gemflowd.model.states import State
from gemflowd.store.base import Store
from gemflowd.store.tables import CacheCount, NewCachedCall

#: Bytes that an entry counts with beside its value: what a row costs.
ROW_COST: Final = 200
#: Entries that one step removes, and their bytes, about.
_STEP: Final = 200
_STEP_BYTES: Final = 8 * 1024 * 1024
#: The part of `cache_max_mb` down to which room is made, so that it is not made for each entry anew.
_ROOM: Final = 15 / 16
#: Seconds that entries may be late to go, so that they go together.
_SLACK: Final = 60.0
#: Characters of a model's name by which it is counted.
_MOST_NAME: Final = 255


def begin(rows: Rows, fact: BeginCall) -> dict[str, Any] | None:
    """What an attempt is to do: see `BeginCall`. None where it has to wait.

    Raises:
        Refused: `stale_attempt`, or `conflict`: it makes a call, or waits for one, already.
    """
    rows.speaking(fact.speaker)
    attempt, calls = (fact.speaker.task, fact.speaker.token), rows.memory.calls
    if isinstance(calls.attempts.get(attempt), Call):
        # Who waited for a call and made another one could make two attempts wait for each other.
        raise Refused("conflict", f"task {attempt[0]} has begun a call already, which has not ended")
    if fact.mode.uses:
        found = rows.store.cache.find(fact.key)
        if found is not None and found.number > rows.memory.cache.cleared:
            calls.serve(attempt, Served(found.model, found.usage, found.number))
            return {"entry": found.number}
    call = calls.shared.get(fact.key) if fact.mode.shares else None
    if call is not None:
        calls.join(call, attempt, Member(fact.mode, fact.reply))
        return None
    calls.open(Call(fact.key, fact.model[:_MOST_NAME], attempt), Member(fact.mode, None))
    return {"lead": True}


def leave(rows: Rows, fact: LeaveCall) -> dict[str, Any]:
    """The answer of an attempt is not for others: it is not stored, and the next of those who wait makes the call.

    Raises:
        Refused: `stale_attempt`.
    """
    rows.speaking(fact.speaker)
    attempt, calls = (fact.speaker.task, fact.speaker.token), rows.memory.calls
    call = calls.attempts.get(attempt)
    if isinstance(call, Call) and call.leader == attempt:
        calls.part(attempt)
        _hand_on(rows, call)
        rows.store.cache.count([CacheCount(call.model, misses=1)])
    return {}


def attempts_ended(rows: Rows, ended: Sequence[Ended]) -> None:
    """Attempts have ended, and some had to do with calls. Their rows are decided already."""
    calls = rows.memory.calls
    served: list[Served] = []
    asked: list[str] = []
    for outcome in ended:
        attempt = (outcome.task, outcome.token)
        found = calls.attempts.get(attempt)
        if found is None:
            continue
        task = rows.turn.tasks.get(outcome.task)
        well = outcome.outcome is Outcome.DONE and task is not None and task.state is State.SUCCEEDED
        if isinstance(found, Served | Waited):
            calls.part(attempt)
            if well and isinstance(found, Served):
                served.append(found)
        elif found.leader != attempt:  # it was cancelled, or its worker is gone
            reply = found.members[attempt].reply
            calls.part(attempt)
            if reply is not None:
                rows.turn.replies.append((reply, stale(outcome.task)))
        elif well:
            asked.append(found.model)
            _answered(rows, found, outcome)
        else:
            calls.part(attempt)
            if outcome.outcome is Outcome.RATE_LIMITED:
                _wait(rows, found, limits.sleep_of(outcome))
            else:
                _hand_on(rows, found)
    _count(rows, served, asked)


def unasked(rows: Rows, ended: Sequence[Ended]) -> frozenset[int]:
    """Tasks whose attempts have ended without a call: each has waited for somebody else's until it was stopped, or until that one met a
    quota. Their limit has not heard of them."""
    found: list[int] = []
    for one in ended:
        attempt = (one.task, one.token)
        call = rows.memory.calls.attempts.get(attempt)
        if isinstance(call, Waited):
            idle = one.outcome is Outcome.RATE_LIMITED
        else:
            idle = isinstance(call, Call) and call.leader != attempt and one.outcome is not Outcome.DONE
        if idle:
            found.append(one.task)
    return frozenset(found)


def clear(rows: Rows) -> dict[str, Any]:
    """Forget all answers at once; what they take goes in small steps."""
    cache = rows.memory.cache
    gone = {"entries": cache.entries, "bytes": cache.bytes}
    cache.cleared, cache.sweeping = cache.number, True
    cache.entries = cache.bytes = 0
    _note(rows)
    return gone


# Keeping it small


def next_time(store: Store, memory: Memory, rules: Rules) -> float | None:
    """When the next step is to be taken, by the steady clock."""
    cache = memory.cache
    if cache.sweeping or cache.bytes > rules.max_cache_bytes:
        return -math.inf
    if not cache.entries or not rules.keep_cache:
        return None
    used = store.cache.next_use()
    return None if used is None else used + rules.keep_cache + _SLACK


def prune(rows: Rows) -> None:
    """Remove some of what was cleared, or else was not used for too long, or is too much. Of what is left the next turn takes some."""
    cache, store, rules = rows.memory.cache, rows.store.cache, rows.turn.rules
    if cache.sweeping:
        cleared = _some(store.cleared(cache.cleared, _STEP))
        store.remove([number for number, _ in cleared])
        cache.sweeping = bool(cleared)
        _note(rows)
        return
    old = rows.turn.steady - rules.keep_cache if rules.keep_cache else -math.inf
    over = cache.bytes > rules.max_cache_bytes
    if not cache.entries or not (over or old > -math.inf):
        return
    left = cache.bytes
    gone: list[tuple[int, int]] = []
    for number, used, size in store.oldest(cache.cleared, _STEP):
        if used > old and not (over and left > rules.max_cache_bytes * _ROOM):
            break
        gone.append((number, size))
        left -= size
    gone = _some(gone)
    if over and not gone:  # the figures are wrong: better none than steps without end
        cache.entries = cache.bytes = 0
        _note(rows)
    elif gone:
        store.remove([number for number, _ in gone])
        cache.entries -= len(gone)
        cache.bytes -= sum(size for _, size in gone)
        _note(rows)


def _some(found: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The first of (number, size) that one step may remove, at least one."""
    some: list[tuple[int, int]] = []
    total = 0
    for number, size in found:
        if some and total + size > _STEP_BYTES:
            break
        some.append((number, size))
        total += size
    return some


# Answers


def _answered(rows: Rows, call: Call, ended: Ended) -> None:
    """The call was made: store its answer, and give it to all who wait for it."""
    calls = rows.memory.calls
    number = _store(rows, call, ended)
    members = list(call.members.items())
    for attempt, member in members:
        calls.part(attempt)
        if member.reply is not None:
            rows.turn.replies.append((member.reply, {"value": ended.payload}))
            calls.serve(attempt, Served(call.model, ended.usage, number))


def _store(rows: Rows, call: Call, ended: Ended) -> int | None:
    """Store the answer, if one of those that it is for wants that. Returns the entry's number."""
    storing = {member.mode.storing for member in call.members.values()}
    size = len(ended.payload) + len(ended.usage or b"") + ROW_COST
    memory, turn, table = rows.memory, rows.turn, rows.store.cache
    cache = memory.cache
    if storing == {Storing.NO} or size > turn.rules.max_cache_bytes or memory.disk_low:
        return None
    replace = Storing.REPLACE in storing
    before = table.find(call.key) if replace else None
    new = NewCachedCall(cache.number + 1, call.key, call.model, turn.now, turn.steady, size, ended.usage, ended.payload)
    if not table.put(new, replace=replace, cleared=cache.cleared):
        return None
    if before is not None and before.number > cache.cleared:
        cache.entries -= 1
        cache.bytes -= before.size
    cache.number = new.number
    cache.entries += 1
    cache.bytes += size
    _note(rows)
    return new.number


def _hand_on(rows: Rows, call: Call) -> None:
    """Whoever made the call has no answer for others: the next one makes it."""
    for attempt, member in call.members.items():
        if member.reply is not None:
            rows.turn.replies.append((member.reply, {"lead": True}))
            rows.memory.calls.lead(call, attempt)
            return


def _wait(rows: Rows, call: Call, seconds: float) -> None:
    """Whoever made the call has met a quota: the others would meet it, too, one after the other."""
    for attempt, member in list(call.members.items()):
        rows.memory.calls.part(attempt)
        if member.reply is not None:
            rows.turn.replies.append((member.reply, {"wait": seconds}))
            rows.memory.calls.serve(attempt, Waited())


def _count(rows: Rows, served: Sequence[Served], asked: Sequence[str]) -> None:
    """Note what was used and what it has saved, in the store alone."""
    table = rows.store.cache
    touched = Counter(one.entry for one in served if one.entry is not None)
    if touched:
        table.touch(list(touched.items()), rows.turn.steady)
    counts = [CacheCount(model, misses=1) for model in asked] + [_saved(rows.turn.rules.prices, one) for one in served]
    if counts:
        table.count(_by_model(counts))


def _saved(prices: Prices, one: Served) -> CacheCount:
    """What a use has saved. A handler says what its call used: what is no number counts as none."""
    said = msgpack.unpackb(one.usage, strict_map_key=False) if one.usage else {}
    usage = said if isinstance(said, dict) else {}
    used = tokens_of(usage)
    cost = prices.cost(one.model, used, str(usage.get("service_tier") or ""))
    return CacheCount(
        one.model, 1, 0, used.prompt, used.cached, used.output, used.thoughts, cost or 0, 1 if cost is None else 0
    )


def _by_model(counts: Sequence[CacheCount]) -> list[CacheCount]:
    sums: dict[str, CacheCount] = {}
    for one in counts:
        before = sums.get(one.model, CacheCount(one.model))
        sums[one.model] = CacheCount(one.model, *(a + b for a, b in zip(before[1:], one[1:], strict=True)))
    return list(sums.values())


def _note(rows: Rows) -> None:
    """Keep the figures with this turn."""
    rows.turn.figures.update(rows.memory.cache.to_meta())
    rows.memory.times_known = False
