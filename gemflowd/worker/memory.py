"""The shared memory as a handler sees it: `context.memory`. What it does is in docs/protocol.md, `memory_get` and following."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from gemflowd.handlers.errors import RequestRefused

Body = dict[str, Any]
#: Keys in one page of a listing.
_PAGE: Final = 1000


class Memory:
    """For sync handlers. Every method raises `RequestRefused`."""

    def __init__(self, ask: Callable[[str, Body], Body]) -> None:
        self._ask = ask

    def get(self, key: str, default: Any = None, namespace: str = "default") -> Any:
        """The value, or `default` where there is none."""
        entry = self.entry(key, namespace)
        return default if entry is None else entry["value"]

    def entry(self, key: str, namespace: str = "default") -> Body | None:
        """`{value, version, updated, expires, writer, …}`, or None: what a compare-and-set begins with."""
        try:
            return self._ask("memory_get", {"namespace": namespace, "key": key})
        except RequestRefused as refused:
            if refused.code == "not_found":
                return None
            raise

    def set(
        self, key: str, value: Any, ttl: float | None = None, version: int | None = None, namespace: str = "default"
    ) -> int:
        """Store a value and return its version. It is durable then, also when this attempt fails afterwards.

        Args:
            ttl: seconds until it is gone; None: it stays.
            version: that the key must have now, 0 for none; another one is refused with `version_mismatch`.
        """
        return int(self._ask("memory_set", _set_body(namespace, key, value, ttl, version))["version"])

    def delete(self, key: str, version: int | None = None, namespace: str = "default") -> bool:
        """Remove a key. Returns whether it was there."""
        return bool(self._ask("memory_delete", _delete_body(namespace, key, version))["deleted"])

    def list(
        self, prefix: str = "", namespace: str = "default", *, values: bool = False, limit: int | None = None
    ) -> list[Body]:
        """The keys that begin with `prefix`, in order, at most `limit`: `{key, version, bytes, …}`, with `values` also `value`."""
        pages = _Pages(namespace, prefix, values, limit)
        while (body := pages.wanted()) is not None:
            pages.take(self._ask("memory_list", body))
        return pages.items


class AsyncMemory:
    """The same for `async def` handlers, as coroutines."""

    def __init__(self, ask: Callable[[str, Body], Awaitable[Body]]) -> None:
        self._ask = ask

    async def get(self, key: str, default: Any = None, namespace: str = "default") -> Any:
        """As `Memory.get`."""
        entry = await self.entry(key, namespace)
        return default if entry is None else entry["value"]

    async def entry(self, key: str, namespace: str = "default") -> Body | None:
        """As `Memory.entry`."""
        try:
            return await self._ask("memory_get", {"namespace": namespace, "key": key})
        except RequestRefused as refused:
            if refused.code == "not_found":
                return None
            raise

    async def set(
        self, key: str, value: Any, ttl: float | None = None, version: int | None = None, namespace: str = "default"
    ) -> int:
        """As `Memory.set`."""
        return int((await self._ask("memory_set", _set_body(namespace, key, value, ttl, version)))["version"])

    async def delete(self, key: str, version: int | None = None, namespace: str = "default") -> bool:
        """As `Memory.delete`."""
        return bool((await self._ask("memory_delete", _delete_body(namespace, key, version)))["deleted"])

    async def list(
        self, prefix: str = "", namespace: str = "default", *, values: bool = False, limit: int | None = None
    ) -> list[Body]:
        """As `Memory.list`."""
        pages = _Pages(namespace, prefix, values, limit)
        while (body := pages.wanted()) is not None:
            pages.take(await self._ask("memory_list", body))
        return pages.items


class _Pages:
    """A listing, page by page."""

    def __init__(self, namespace: str, prefix: str, values: bool, limit: int | None) -> None:
        self._body = {"namespace": namespace, "prefix": prefix, "values": values}
        self._limit = limit
        self._after: str | None = ""
        self.items: list[Body] = []

    def wanted(self) -> Body | None:
        """The next request, None when there is nothing more to ask for."""
        left = _PAGE if self._limit is None else min(_PAGE, self._limit - len(self.items))
        return None if self._after is None or left <= 0 else {**self._body, "after": self._after, "limit": left}

    def take(self, page: Body) -> None:
        self.items += page["items"]
        self._after = page["next"]


def _set_body(namespace: str, key: str, value: Any, ttl: float | None, version: int | None) -> Body:
    return {"namespace": namespace, "key": key, "value": value, "ttl": ttl, "version": version}


def _delete_body(namespace: str, key: str, version: int | None) -> Body:
    return {"namespace": namespace, "key": key, "version": version}
