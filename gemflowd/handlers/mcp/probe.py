"""`python -m gemflowd.handlers.mcp.probe`: which of the servers in a JSON on standard input answer. For `doctor`.

A process of its own, because the library is heavy, and the daemon must not wait for what a server does. Prints one JSON line:
`{name: {tools: n} | {error: sentence}}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from gemflowd.handlers.errors import HandlerError
from gemflowd.handlers.mcp import sessions
from gemflowd.handlers.mcp.settings import Server, servers


async def _look(server: Server) -> dict[str, Any]:
    try:
        async with asyncio.timeout(server.timeout):
            return {"tools": len(await sessions.tools(server))}
    except HandlerError as error:
        return {"error": error.message}
    except TimeoutError:
        return {"error": f"no answer within {server.timeout:g} s"}


async def _all(settings: dict[str, Any]) -> dict[str, Any]:
    known = servers(settings)
    try:
        found = await asyncio.gather(*map(_look, known.values()))
    finally:
        await sessions.close()
    return dict(zip(known, found, strict=True))


def main() -> None:
    print(json.dumps(asyncio.run(_all(json.load(sys.stdin)))))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
