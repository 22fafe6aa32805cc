"""The shared memory: set, compare and set, delete, expire; what it may hold in all.

A version is given once in the life of the installation, so those of a key grow over a `delete` as well. What has expired is
treated as not there from that moment on; its row goes in small steps, by the clock.
"""

from __future__ import annotations

from typing import Any, Final

from gemflowd.engine.rows import Rows
from gemflowd.model.errors import Refused, echo
from gemflowd.model.event import MEMORY_TOPIC, Event
from gemflowd.model.facts import DeleteValue, SetValue, Speaker
from gemflowd.store.tables import HeldValue, NewValue

#: Bytes that a key counts with beside its name and value: what a row costs, or many tiny values would be for nothing.
ROW_COST: Final = 100
#: Expired values that one step removes, and their bytes, about.
_STEP: Final = 200
_STEP_BYTES: Final = 8 * 1024 * 1024


def set_value(rows: Rows, fact: SetValue) -> dict[str, Any]:
    """Store a value, once it may be.

    Raises:
        Refused: `stale_attempt`, `version_mismatch`, `too_large` or `disk_full`; nothing was decided.
    """
    turn, memory = rows.turn, rows.memory
    attempt = _attempt(rows, fact.speaker)
    stored = rows.store.values.held(fact.namespace, fact.key)
    _compare(rows, fact, stored)
    if memory.value_bytes + _growth(fact, stored) > turn.rules.max_memory_bytes:
        expire(rows)  # nobody is refused for the sake of what nobody can see
        stored = rows.store.values.held(fact.namespace, fact.key)
    _check_size(rows, fact, stored)
    memory.value_version += 1
    turn.figures["value_version"] = memory.value_version
    _count(rows, _growth(fact, stored))
    until = None if fact.ttl is None else turn.steady + fact.ttl
    task = None if fact.speaker is None else fact.speaker.task
    new = NewValue(fact.value, memory.value_version, turn.now, until, task, attempt, None)
    rows.store.values.put(fact.namespace, fact.key, new)
    if until is not None or (stored is not None and stored.until is not None):
        memory.times_known = False
    body = {"namespace": fact.namespace, "key": fact.key, "version": memory.value_version}
    turn.events.append(Event(MEMORY_TOPIC, {**body, "deleted": False}))
    return body


def delete_value(rows: Rows, fact: DeleteValue) -> dict[str, Any]:
    """Remove a key, if it is there.

    Raises:
        Refused: `stale_attempt` or `version_mismatch`.
    """
    _attempt(rows, fact.speaker)
    stored = rows.store.values.held(fact.namespace, fact.key)
    _compare(rows, fact, stored)
    if stored is None or not _alive(rows, stored):
        return {"deleted": False}
    _remove(rows, fact.namespace, fact.key, stored.size)
    if stored.until is not None:
        rows.memory.times_known = False
    return {"deleted": True}


def expire(rows: Rows) -> None:
    """Remove some of what has expired. Of what is left the next turn takes some."""
    removed = 0
    for namespace, key, size in rows.store.values.expired(rows.turn.steady, _STEP):
        _remove(rows, namespace, key, size)
        rows.memory.times_known = False
        removed += size
        if removed > _STEP_BYTES:
            break


def _attempt(rows: Rows, speaker: Speaker | None) -> int | None:
    """Which attempt of its task speaks, None for a client.

    Raises:
        Refused: `stale_attempt`.
    """
    return None if speaker is None else rows.speaking(speaker).attempts + 1


def _compare(rows: Rows, fact: SetValue | DeleteValue, stored: HeldValue | None) -> None:
    """Raises: Refused: `version_mismatch`."""
    if fact.version is None:
        return
    version = stored.version if stored is not None and _alive(rows, stored) else 0
    if version == fact.version:
        return
    has = f"has version {version}" if version else "does not exist"
    raise Refused("version_mismatch", f"the key {echo(fact.key)} in {echo(fact.namespace)} {has}", "version")


def _check_size(rows: Rows, fact: SetValue, stored: HeldValue | None) -> None:
    """Raises: Refused: `too_large` or `disk_full`."""
    memory, rules = rows.memory, rows.turn.rules
    if len(fact.value) > rules.max_value_bytes:
        message = (
            f"the value has {len(fact.value)} bytes; the setting memory_max_value_kb allows {rules.max_value_bytes}"
        )
        raise Refused("too_large", message, "value")
    more = _growth(fact, stored)
    if more <= 0:
        return  # there is always a way down
    if memory.disk_low:
        raise Refused("disk_full", "the disk is nearly full (setting min_free_mb); nothing was stored")
    if memory.value_bytes + more > rules.max_memory_bytes:
        message = (
            f"the shared memory has {memory.value_bytes} bytes and would have {more} more;"
            f" the setting memory_max_mb allows {rules.max_memory_bytes}. Delete what is not needed, or set a ttl"
        )
        raise Refused("too_large", message, "value")


def _alive(rows: Rows, stored: HeldValue) -> bool:
    return stored.until is None or stored.until > rows.turn.steady


def _remove(rows: Rows, namespace: str, key: str, size: int) -> None:
    rows.store.values.delete(namespace, key)
    _count(rows, -_cost(namespace, key, size))
    fields = {"namespace": namespace, "key": key, "version": None, "deleted": True}
    rows.turn.events.append(Event(MEMORY_TOPIC, fields))


def _count(rows: Rows, change: int) -> None:
    """Keep the total, in memory and, with this turn, in the store."""
    rows.memory.value_bytes += change
    rows.turn.figures["value_bytes"] = rows.memory.value_bytes


def _cost(namespace: str, key: str, size: int) -> int:
    """What a value counts with in `memory_max_mb`."""
    return size + len(namespace.encode()) + len(key.encode()) + ROW_COST


def _growth(fact: SetValue, stored: HeldValue | None) -> int:
    """By how much the total changes when the value takes the place of what is stored."""
    before = 0 if stored is None else _cost(fact.namespace, fact.key, stored.size)
    return _cost(fact.namespace, fact.key, len(fact.value)) - before
