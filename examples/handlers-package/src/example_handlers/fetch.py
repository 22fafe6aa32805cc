"""`fetch-page`: a coroutine, whose data is a msgspec Struct. Hundreds of them share a worker."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import aiohttp
import msgspec

from gemflowd.handlers.errors import Permanent, RateLimited
from gemflowd.handlers.registry import task
from gemflowd.worker.context import AsyncContext


class Page(msgspec.Struct, forbid_unknown_fields=True):
    """What a task of this type is given."""

    url: Annotated[str, msgspec.Meta(pattern="^https?://")]
    timeout: Annotated[float, msgspec.Meta(gt=0, le=300)] = 30.0


@task("fetch-page", input=Page, bucket="fetch", retry_on={"ClientConnectionError": 5})
async def fetch(data: Page, context: AsyncContext) -> dict[str, Any]:
    """A page's status and text; what was fetched before is taken from the shared memory."""
    known = await context.memory.get(data.url, namespace="pages")
    if known is not None:
        return {**known, "cached": True}
    timeout = aiohttp.ClientTimeout(total=data.timeout)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(data.url) as response:
        if response.status == 429:
            raise RateLimited("too many requests", retry_after=float(response.headers.get("Retry-After", 5)))
        if response.status in (404, 410):
            raise Permanent(f"{data.url} does not exist", code="gone")
        response.raise_for_status()
        if response.headers.get("X-Slow-Down"):
            await context.limit(1.0)  # the others wait; this attempt goes on
        page = {"status": response.status, "text": await asyncio.wait_for(response.text(), data.timeout)}
    context.log(f"{len(page['text'])} characters")
    await context.memory.set(data.url, page, ttl=3600, namespace="pages")
    return {**page, "cached": False}
