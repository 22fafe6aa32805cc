"""The cache of model calls as an `async def` handler sees it: `context.cache`. What it promises is in docs/semantics.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgpack

from gemflowd.handlers.errors import RateLimited

Body = dict[str, Any]


class AsyncCache:
    """Every method raises `RequestRefused`."""

    def __init__(self, ask: Callable[[str, Body], Awaitable[Body]]) -> None:
        self._ask = ask

    async def begin(self, key: bytes, model: str, mode: str) -> Any:
        """The answer of a call with that key, or None when this attempt is to make the call.

        While another attempt makes it, this waits for that one's answer. What the handler returns after a None becomes the
        answer for all others, unless it calls `leave`.

        Args:
            key: 32 bytes, the same for the same request and for no other.
            mode: one of `gemflowd.model.cache.MODES`.

        Raises:
            RateLimited: whoever has made the call has met a quota.
        """
        answer = await self._ask("cache_begin", {"key": key, "model": model, "mode": mode})
        if "value" in answer:
            return msgpack.unpackb(answer["value"], strict_map_key=False)
        if "wait" in answer:
            raise RateLimited("an identical call has met a quota", retry_after=float(answer["wait"]))
        return None

    async def leave(self) -> None:
        """What this attempt returns is an answer for nobody else."""
        await self._ask("cache_leave", {})
