"""Task types for trying things out and for measuring: `echo`, `sleep` and `spin`.

They do what they say and nothing else, so that what is measured with them is the daemon and not the work.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.registry import task

if TYPE_CHECKING:
    from gemflowd.worker.context import AsyncContext, Context

_SECONDS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"seconds": {"type": "number", "minimum": 0}},
    "required": ["seconds"],
    "additionalProperties": False,
}


@task("echo")
def echo(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Return the data as it is."""
    return data


@task("sleep", schema=_SECONDS)
async def sleep(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """Wait for `seconds` as a coroutine: thousands of them need no processor."""
    seconds = float(data["seconds"])
    await asyncio.sleep(seconds)
    return {"seconds": seconds}


@task("spin", schema=_SECONDS)
def spin(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Burn `seconds` of one processor, as measured for this thread: beside other work it takes longer by the clock."""
    seconds = float(data["seconds"])
    end = time.thread_time() + seconds
    value = 1
    while time.thread_time() < end:
        for _ in range(10_000):  # reading the clock is a system call; the burning should be done in Python
            value = value * 1_103_515_245 + 12_345 & 0x7FFFFFFF
    return {"seconds": seconds}
