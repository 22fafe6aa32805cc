"""The requests about what the daemon keeps beside tasks: queues, schedules, the shared memory, budgets, the cache, the database. Pure.

One request and one reply each, as in `ops.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gemflowctl.steps import Body, Call

#: Seconds that a copy or a check of a large database may take.
DATABASE_PATIENCE: Final = 3600.0


def _given(**fields: Any) -> Body:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def queues() -> Call:
    return Call("queues")


def queue_limit(queue: str, limit: int | None) -> Call:
    return Call("queues", {"queue": queue, "limit": limit})


def pause(queue: str | None) -> Call:
    return Call("pause", _given(queue=queue))


def resume(queue: str | None) -> Call:
    return Call("resume", _given(queue=queue))


def limits(name: str | None) -> Call:
    return Call("limits", _given(limit=name))


def set_limit(name: str, figures: Mapping[str, Any], reset: bool) -> Call:
    return Call("limits", {"limit": name, "set": dict(figures), "reset": reset})


def schedule_add(
    name: str,
    cron: str,
    task: Mapping[str, Any],
    *,
    zone: str | None,
    misfire: str | None,
    misfire_limit: int | None,
    overlap: str | None,
    paused: bool,
    replace: bool,
) -> Call:
    body = _given(
        name=name,
        cron=cron,
        task=dict(task),
        zone=zone,
        misfire=misfire,
        misfire_limit=misfire_limit,
        overlap=overlap,
        paused=paused or None,
        replace=replace or None,
    )
    # Without `replace` the second of two would be refused: the name exists.
    return Call("schedule_add", body, repeatable=replace)


def schedule_list() -> Call:
    return Call("schedule_list")


def schedule_show(name: str) -> Call:
    return Call("schedule_show", {"name": name})


def schedule_pause(name: str) -> Call:
    return Call("schedule_pause", {"name": name})


def schedule_resume(name: str) -> Call:
    return Call("schedule_resume", {"name": name})


def schedule_remove(name: str) -> Call:
    return Call("schedule_remove", {"name": name}, repeatable=False)


def memory_get(key: str, namespace: str | None) -> Call:
    return Call("memory_get", _given(namespace=namespace, key=key))


def memory_set(key: str, value: Any, namespace: str | None, ttl: float | None, version: int | None) -> Call:
    # With a version the second of two would be refused, although the first has set it.
    body = {**_given(namespace=namespace, key=key, ttl=ttl, version=version), "value": value}
    return Call("memory_set", body, repeatable=version is None)


def memory_delete(key: str, namespace: str | None, version: int | None) -> Call:
    # Not repeatable: the second would say that there was nothing, and what was set in between would go too.
    return Call("memory_delete", _given(namespace=namespace, key=key, version=version), repeatable=False)


def memory_namespaces() -> Call:
    return Call("memory_list", {"namespaces": True})


def budget_set(of: str | int, money: float | None, tokens: int | None, action: str | None) -> Call:
    return Call("budget_set", {"of": of, **_given(money=money, tokens=tokens, action=action)})


def budget_raise(of: str | int, money: float | None, tokens: int | None) -> Call:
    # Not repeatable: it would be raised twice.
    return Call("budget_raise", {"of": of, **_given(money=money, tokens=tokens)}, repeatable=False)


def budget_remove(of: str | int) -> Call:
    # Not repeatable: the second would be refused, since there is none any more.
    return Call("budget_remove", {"of": of}, repeatable=False)


def cache_stats() -> Call:
    return Call("cache_stats")


def cache_list(limit: int) -> Call:
    return Call("cache_list", {"limit": limit})


def cache_clear() -> Call:
    # Not repeatable: the second would say that there was nothing.
    return Call("cache_clear", repeatable=False)


def db_snapshot(path: str | Path) -> Call:
    # Not repeatable: the second would be refused, since the file exists.
    return Call("db_snapshot", {"path": str(Path(path).absolute())}, repeatable=False, patience=DATABASE_PATIENCE)


def db_check() -> Call:
    return Call("db_check", patience=DATABASE_PATIENCE)
