"""A real MCP server for tests: over stdio, or with `--http` on a free port of this machine, which it prints, behind a token.

hold    says that it has begun in the pipe PATH.begun, and returns when PATH is there
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer

TOKEN = "a-token-that-nobody-may-see"
server = MCPServer("of the tests")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def fail(word: str) -> str:
    """Fail."""
    raise ValueError(f"the tool has failed: {word} {os.environ.get('SECRET')}")


@server.tool()
def tell(word: str) -> str:
    """Tell too much."""
    return f"{word} and {os.environ.get('SECRET')}"


@server.tool()
async def hold(path: str) -> str:
    """Wait for a file."""
    Path(f"{path}.begun").write_text("begun")
    while not Path(path).exists():
        await anyio.sleep(0.01)
    return "held"


@server.tool()
def end() -> None:
    """End this process."""
    os._exit(3)


def over_http() -> None:
    import uvicorn
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import PlainTextResponse

    async def guard(request: Any, call_next: Any) -> Any:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return PlainTextResponse("no", 401)
        return await call_next(request)

    app = server.streamable_http_app()
    app.add_middleware(BaseHTTPMiddleware, dispatch=guard)
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])


if __name__ == "__main__":
    if "--http" in sys.argv:
        over_http()
    else:
        server.run("stdio")
