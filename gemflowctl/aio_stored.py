"""The part of `AsyncClient` about what the daemon keeps beside tasks; the same methods as in `stored.py`, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from gemflowctl import ops_stored, paging
from gemflowctl.aio_driver import AsyncDriver
from gemflowctl.steps import Bodies, Body
from gemflowctl.submission import plain_task


class AsyncStoredThings:
    """Methods of `AsyncClient`, which has the driver."""

    _driver: AsyncDriver

    # Queues

    async def queues(self) -> Bodies:
        """As `Client.queues`."""
        return (await self._driver.call(ops_stored.queues()))["queues"]  # type: ignore[no-any-return]

    async def queue_limit(self, queue: str, limit: int | None) -> Body:
        """As `Client.queue_limit`."""
        return await self._driver.call(ops_stored.queue_limit(queue, limit))

    async def pause(self, queue: str | None = None) -> Body:
        """As `Client.pause`."""
        return await self._driver.call(ops_stored.pause(queue))

    async def resume(self, queue: str | None = None) -> Body:
        """As `Client.resume`."""
        return await self._driver.call(ops_stored.resume(queue))

    # Limits

    async def limits(self, name: str | None = None) -> Bodies:
        """As `Client.limits`."""
        return (await self._driver.call(ops_stored.limits(name)))["limits"]  # type: ignore[no-any-return]

    async def set_limit(self, name: str, *, reset: bool = False, **figures: float | str | None) -> Body:
        """As `Client.set_limit`."""
        return (await self._driver.call(ops_stored.set_limit(name, figures, reset)))["limits"][0]  # type: ignore[no-any-return]

    # Schedules

    async def schedule_add(
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
        """As `Client.schedule_add`."""
        return await self._driver.call(
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

    async def schedule_list(self) -> Bodies:
        """As `Client.schedule_list`."""
        return (await self._driver.call(ops_stored.schedule_list()))["schedules"]  # type: ignore[no-any-return]

    async def schedule_show(self, name: str) -> Body:
        """As `Client.schedule_show`."""
        return await self._driver.call(ops_stored.schedule_show(name))

    async def schedule_pause(self, name: str) -> Body:
        """As `Client.schedule_pause`."""
        return await self._driver.call(ops_stored.schedule_pause(name))

    async def schedule_resume(self, name: str) -> Body:
        """As `Client.schedule_resume`."""
        return await self._driver.call(ops_stored.schedule_resume(name))

    async def schedule_remove(self, name: str) -> Body:
        """As `Client.schedule_remove`."""
        return await self._driver.call(ops_stored.schedule_remove(name))

    # The shared memory

    async def memory_get(self, key: str, *, namespace: str | None = None) -> Body:
        """As `Client.memory_get`."""
        return await self._driver.call(ops_stored.memory_get(key, namespace))

    async def memory_set(
        self,
        key: str,
        value: Any,
        *,
        namespace: str | None = None,
        ttl: float | None = None,
        version: int | None = None,
    ) -> Body:
        """As `Client.memory_set`."""
        return await self._driver.call(ops_stored.memory_set(key, value, namespace, ttl, version))

    async def memory_delete(self, key: str, *, namespace: str | None = None, version: int | None = None) -> bool:
        """As `Client.memory_delete`."""
        return bool((await self._driver.call(ops_stored.memory_delete(key, namespace, version)))["deleted"])

    def memory_list(
        self, prefix: str = "", *, namespace: str | None = None, values: bool = False, limit: int | None = None
    ) -> AsyncIterator[Body]:
        """As `Client.memory_list`."""
        return self._driver.emitted(paging.memory_list(namespace, prefix, values, limit))

    async def memory_namespaces(self) -> Bodies:
        """As `Client.memory_namespaces`."""
        return (await self._driver.call(ops_stored.memory_namespaces()))["namespaces"]  # type: ignore[no-any-return]

    # Money and tokens

    async def usage(self, by: str = "model", *, since: float | None = None) -> Body:
        """As `Client.usage`."""
        return await self._driver.finish(paging.usage(by, since))

    async def budgets(self) -> Body:
        """As `Client.budgets`."""
        return await self._driver.finish(paging.budgets())

    async def budget_set(
        self, of: str | int, money: float | None = None, *, tokens: int | None = None, action: str | None = None
    ) -> Body:
        """As `Client.budget_set`."""
        return await self._driver.call(ops_stored.budget_set(of, money, tokens, action))

    async def budget_raise(self, of: str | int, money: float | None = None, *, tokens: int | None = None) -> Body:
        """As `Client.budget_raise`."""
        return await self._driver.call(ops_stored.budget_raise(of, money, tokens))

    async def budget_remove(self, of: str | int) -> Body:
        """As `Client.budget_remove`."""
        return await self._driver.call(ops_stored.budget_remove(of))

    # The cache of model calls

    async def cache_stats(self) -> Body:
        """As `Client.cache_stats`."""
        return await self._driver.call(ops_stored.cache_stats())

    async def cache_list(self, limit: int = 100) -> Bodies:
        """As `Client.cache_list`."""
        return (await self._driver.call(ops_stored.cache_list(limit)))["items"]  # type: ignore[no-any-return]

    async def cache_clear(self) -> Body:
        """As `Client.cache_clear`."""
        return await self._driver.call(ops_stored.cache_clear())

    # The database

    async def db_snapshot(self, path: str | Path) -> Body:
        """As `Client.db_snapshot`."""
        return await self._driver.call(ops_stored.db_snapshot(path))

    async def db_check(self) -> Body:
        """As `Client.db_check`."""
        return await self._driver.call(ops_stored.db_check())
