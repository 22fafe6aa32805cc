"""Bare asyncio with google-genai, set up as our workers set it up: `python -m benchmarks.bare_calls URL`.

Reads lines of `CALLS FLIGHT` and answers each with `[seconds, megabytes]` as JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time

import aiohttp
from google.genai import Client, types


async def run(url: str) -> None:
    """Answer until standard input ends."""
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())
    options = types.HttpOptions(base_url=url, aiohttp_client=session, retry_options=types.HttpRetryOptions(attempts=1))
    client = Client(api_key="none", vertexai=False, http_options=options)
    settings = types.GenerateContentConfig(
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True), automatic_continuation=False
    )
    while line := await asyncio.to_thread(sys.stdin.readline):
        calls, flight = map(int, line.split())
        begin = time.perf_counter()
        waiting = iter(range(calls))

        async def one(waiting: object = waiting) -> None:
            for number in waiting:  # type: ignore[attr-defined]
                await client.aio.models.generate_content(
                    model="gemini-2.5-flash", contents=f"Say {number}.", config=settings
                )

        async with asyncio.TaskGroup() as group:
            for _ in range(flight):
                group.create_task(one())
        seconds = time.perf_counter() - begin
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([seconds, memory]), flush=True)
    await client.aio.aclose()
    await session.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
