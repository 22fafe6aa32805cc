"""The part of `Client` about what the daemon keeps beside tasks: queues, schedules, the shared memory, the cache, the database.

`aio_stored.py` is the same in asyncio; what is sent is in `ops_stored.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gemflowctl import ops_stored, paging
from gemflowctl.driver import Driver
from gemflowctl.steps import Bodies, Body
from gemflowctl.submission import plain_task


class StoredThings:
    """Methods of `Client`, which has the driver."""

    _driver: Driver

    # Queues

    def queues(self) -> Bodies:
        """The queues: `{queue, paused, limit, tasks}` each."""
        return self._driver.call(ops_stored.queues())["queues"]  # type: ignore[no-any-return]

    def queue_limit(self, queue: str, limit: int | None) -> Body:
        """Set how many tasks of a queue run at a time; None: as many as there is room for."""
        return self._driver.call(ops_stored.queue_limit(queue, limit))

    def pause(self, queue: str | None = None) -> Body:
        """Let a queue (None: `default`) start nothing; what runs goes on: `{queue, paused}`."""
        return self._driver.call(ops_stored.pause(queue))

    def resume(self, queue: str | None = None) -> Body:
        """Let a paused queue go on: `{queue, paused}`."""
        return self._driver.call(ops_stored.resume(queue))

    # Limits

    def limits(self, name: str | None = None) -> Bodies:
        """The limits, or one: `{limit, in_flight, asleep_until, parked_until, cap, breaker, used, figures}` each."""
        return self._driver.call(ops_stored.limits(name))["limits"]  # type: ignore[no-any-return]

    def set_limit(self, name: str, *, reset: bool = False, **figures: float | str | None) -> Body:
        """Give a limit figures at run time (`rpm=60`), None to take one back; `reset` takes back all, and what was learned."""
        return self._driver.call(ops_stored.set_limit(name, figures, reset))["limits"][0]  # type: ignore[no-any-return]

    # Schedules

    def schedule_add(
        self,
        name: str,
        cron: str,
        task: Mapping[str, Any],
        *,
        zone: str | None = None,
        misfire: str | None = None,
        misfire_limit: int | None = None,
        overlap: str | None = None,
        paused: bool = False,
        replace: bool = False,
    ) -> Body:
        """Submit a task again and again: the schedule.

        Args:
            cron: five fields, six with seconds first, or `@hourly` and the like, in the time zone `zone` (`UTC`).
            task: as docs/protocol.md describes it, without `deps`, `run_at`, `expires` and `key`.
            misfire: what becomes of runs that were missed: `skip`, `once` or `all` (the last `misfire_limit`).
            overlap: what becomes of a run whose predecessor has not ended: `skip`, `allow`, `queue` or `cancel`.
            replace: put it in the place of one with the same name.
        """
        return self._driver.call(
            ops_stored.schedule_add(
                name,
                cron,
                plain_task(task),
                zone=zone,
                misfire=misfire,
                misfire_limit=misfire_limit,
                overlap=overlap,
                paused=paused,
                replace=replace,
            )
        )

    def schedule_list(self) -> Bodies:
        """All schedules."""
        return self._driver.call(ops_stored.schedule_list())["schedules"]  # type: ignore[no-any-return]

    def schedule_show(self, name: str) -> Body:
        """One schedule, with its task."""
        return self._driver.call(ops_stored.schedule_show(name))

    def schedule_pause(self, name: str) -> Body:
        """Let a schedule start nothing until it is resumed."""
        return self._driver.call(ops_stored.schedule_pause(name))

    def schedule_resume(self, name: str) -> Body:
        """Let it go on; what was due meanwhile is not made up for."""
        return self._driver.call(ops_stored.schedule_resume(name))

    def schedule_remove(self, name: str) -> Body:
        """Remove a schedule; flows that it has started stay."""
        return self._driver.call(ops_stored.schedule_remove(name))

    # The shared memory

    def memory_get(self, key: str, *, namespace: str | None = None) -> Body:
        """A value with what is known of it: `{namespace, key, value, version, updated, expires, writer}`.

        Raises:
            RefusedByDaemon: `not_found`.
        """
        return self._driver.call(ops_stored.memory_get(key, namespace))

    def memory_set(
        self,
        key: str,
        value: Any,
        *,
        namespace: str | None = None,
        ttl: float | None = None,
        version: int | None = None,
    ) -> Body:
        """Set a value; when it returns, it is durable: `{namespace, key, version}`.

        Args:
            ttl: seconds after which it is gone.
            version: only if the key has exactly this version; 0: only if there is no such key.

        Raises:
            RefusedByDaemon: `version_mismatch`, `too_large`.
        """
        return self._driver.call(ops_stored.memory_set(key, value, namespace, ttl, version))

    def memory_delete(self, key: str, *, namespace: str | None = None, version: int | None = None) -> bool:
        """Delete a key, with `version` only in that version; whether there was one."""
        return bool(self._driver.call(ops_stored.memory_delete(key, namespace, version))["deleted"])

    def memory_list(
        self, prefix: str = "", *, namespace: str | None = None, values: bool = False, limit: int | None = None
    ) -> Iterator[Body]:
        """Keys that begin with `prefix`, in order, with `values` also their values, fetched page by page."""
        return self._driver.emitted(paging.memory_list(namespace, prefix, values, limit))

    def memory_namespaces(self) -> Bodies:
        """The namespaces: `{namespace, keys, bytes}` each."""
        return self._driver.call(ops_stored.memory_namespaces())["namespaces"]  # type: ignore[no-any-return]

    # Money and tokens

    def usage(self, by: str = "model", *, since: float | None = None) -> Body:
        """What model calls have used and cost, by `model`, `flow`, `day` or `tier`: `{usage, total, currency, prices}`.

        Args:
            since: from the day (UTC) of that moment on, in seconds since the epoch.
        """
        return self._driver.finish(paging.usage(by, since))

    def budgets(self) -> Body:
        """All budgets: `{budgets, currency}`."""
        return self._driver.finish(paging.budgets())

    def budget_set(
        self, of: str | int, money: float | None = None, *, tokens: int | None = None, action: str | None = None
    ) -> Body:
        """Limit what may be used: the budget.

        Args:
            of: a task's number, `f7`, `f7/some-id`, `queue:slow`, `day` or `total`.
            action: what becomes of calls that don't fit: `hold`, `warn` or `cancel`.

        Raises:
            RefusedByDaemon: `no_price`, a model that is called has none.
        """
        return self._driver.call(ops_stored.budget_set(of, money, tokens, action))

    def budget_raise(self, of: str | int, money: float | None = None, *, tokens: int | None = None) -> Body:
        """Raise a budget by so much; what it held goes on."""
        return self._driver.call(ops_stored.budget_raise(of, money, tokens))

    def budget_remove(self, of: str | int) -> Body:
        """Take a budget away; what it held goes on."""
        return self._driver.call(ops_stored.budget_remove(of))

    # The cache of model calls

    def cache_stats(self) -> Body:
        """What is in it and what it was good for: `{entries, bytes, hits, misses, hit_rate, saved, models}`."""
        return self._driver.call(ops_stored.cache_stats())

    def cache_list(self, limit: int = 100) -> Bodies:
        """What was used last, first: `{key, model, stored, hits, bytes}` each."""
        return self._driver.call(ops_stored.cache_list(limit))["items"]  # type: ignore[no-any-return]

    def cache_clear(self) -> Body:
        """Forget all answers: `{entries, bytes}`."""
        return self._driver.call(ops_stored.cache_clear())

    # The database

    def db_snapshot(self, path: str | Path) -> Body:
        """Write a consistent copy of the database on the daemon's machine: `{path, bytes, seconds}`.

        A relative path is made absolute here. The file may not exist yet.
        """
        return self._driver.call(ops_stored.db_snapshot(path))

    def db_check(self) -> Body:
        """Check the whole database: `{ok, problems, seconds}`."""
        return self._driver.call(ops_stored.db_check())
