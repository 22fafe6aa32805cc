"""Sessions with MCP servers: one for each server and worker, opened when it is first needed and kept until the worker ends.

A session lives in an asyncio task of its own, because what the library opens must be closed by the task that opened it. One that breaks
off is opened again by the next who needs it. A server that is a process of ours carries the daemon's lease in its environment, so it is
found and ended whatever happens to its worker; it inherits neither keys nor anything else of the daemon's environment. Does not cover what
is made of an answer (`handler`).
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary

from gemflowd.handlers.errors import HandlerError, Permanent, Transient
from gemflowd.handlers.mcp.settings import Server

if TYPE_CHECKING:
    from mcp import Client

T = TypeVar("T")

_LEASE: Final = "GEMFLOW_LEASE"
_MOST_TOOLS: Final = 1_000
#: Bytes of what a server has said on its standard error that are kept, for the sentence about its end.
_LAST_WORDS: Final = 2_000
_PIECE: Final = 4096


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as its server describes it. `schema`: JSON Schema of the arguments."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(eq=False)
class _Session:
    """
    Attributes:
        opened: the client, or why there is none.
        tools: its list, once somebody has asked.
    """

    opened: asyncio.Future[Client]
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    tools: dict[str, Tool] | None = None
    ended: bool = False


_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Session]] = WeakKeyDictionary()


async def tools(server: Server) -> dict[str, Tool]:
    """What a server offers, by name; asked once in the life of a session.

    Raises:
        Transient: `mcp_unreachable`: it does not start, or does not answer.
        Permanent: `mcp_missing`: the library is not installed; `bad_server`.
    """
    session = await _session(server)
    if session.tools is None:
        session.tools = await _asked(server, session, lambda client: _listed(client))
    return session.tools


async def call(server: Server, tool: str, arguments: dict[str, Any], timeout: float) -> Any:
    """The result of one call, as the library has it. Cancelling tells the server.

    Raises:
        Transient: as `tools`; `timeout`.
        Permanent: as `tools`; `mcp_error`: the server refuses, such as a tool that it has not.
    """
    session = await _session(server)
    return await _asked(server, session, lambda client: client.call_tool(tool, arguments, read_timeout_seconds=timeout))


async def close() -> None:
    """End the running loop's sessions."""
    for session in list(_sessions.pop(asyncio.get_running_loop(), {}).values()):
        session.closing.set()
        if session.task is not None:
            with suppress(Exception):
                await session.task


async def _session(server: Server) -> _Session:
    """The loop's session with a server, open."""
    mine = _sessions.setdefault(asyncio.get_running_loop(), {})
    key = repr(server)  # a reload may have changed what the name means
    session = mine.get(key)
    if session is None or session.ended:
        session = mine[key] = _Session(asyncio.get_running_loop().create_future())
        session.task = asyncio.create_task(_live(server, session), name=f"mcp {server.name}")
    await asyncio.shield(session.opened)
    return session


async def _live(server: Server, session: _Session) -> None:
    """From opening to closing, in one task."""
    words: deque[bytes] = deque(maxlen=8)
    scrub = server.scrub()
    try:
        await _library()
        async with asyncio.timeout(server.timeout) as deadline, _connected(server, words) as client:
            session.opened.set_result(client)
            deadline.reschedule(None)
            await session.closing.wait()
    except HandlerError as error:
        _fail(session, error)
    except TimeoutError:
        _fail(
            session, Transient(f"the MCP server {server.name} did not answer within {server.timeout:g} s", code=_GONE)
        )
    except asyncio.CancelledError:
        _fail(session, Transient(f"the MCP server {server.name} was not reached any more", code=_GONE))
        raise
    except BaseException as error:  # noqa: BLE001 - groups of whatever its tasks have met
        why = scrub(f"{_reason(error)}{_said(words)}")
        _fail(session, Transient(f"the MCP server {server.name} can't be reached: {why}", code=_GONE))
    finally:
        session.ended = True


_GONE: Final = "mcp_unreachable"


def _fail(session: _Session, error: HandlerError) -> None:
    if not session.opened.done():
        session.opened.set_exception(error)
        session.opened.exception()  # looked at, also where nobody waits any more


async def _library() -> None:
    """Import it on a thread: it takes a second, and the loop is others', too."""
    try:
        await asyncio.to_thread(importlib.import_module, "mcp")
    except ImportError:
        raise Permanent("MCP needs a library: pip install 'gemflow[mcp]'", code="mcp_missing") from None


@asynccontextmanager
async def _connected(server: Server, words: deque[bytes]) -> AsyncIterator[Client]:
    import httpx2
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client

    if server.url is not None:
        timeout = httpx2.Timeout(server.timeout, read=None)  # a call's own deadline is its task's
        async with (
            httpx2.AsyncClient(headers=server.headers(), timeout=timeout) as http,
            Client(streamable_http_client(server.url, http_client=http)) as client,
        ):
            yield client
        return
    environment = server.environment()
    if _LEASE in os.environ:
        environment[_LEASE] = os.environ[_LEASE]
    program, *arguments = server.command
    started = StdioServerParameters(command=program, args=arguments, env=environment)
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    try:
        with os.fdopen(writing, "w") as errors:
            os.set_blocking(reading, False)
            loop.add_reader(reading, _listen, loop, reading, words)
            async with Client(stdio_client(started, errlog=errors)) as client:
                yield client
    finally:
        loop.remove_reader(reading)
        _listen(loop, reading, words)
        os.close(reading)


def _listen(loop: asyncio.AbstractEventLoop, descriptor: int, words: deque[bytes]) -> None:
    """Take what a server says on its standard error, so that it never waits for a reader."""
    with suppress(BlockingIOError):
        piece = os.read(descriptor, _PIECE)
        if not piece:
            loop.remove_reader(descriptor)
        words.append(piece)


async def _listed(client: Client) -> dict[str, Tool]:
    found: dict[str, Tool] = {}
    cursor: str | None = None
    while len(found) < _MOST_TOOLS:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            found[tool.name] = Tool(tool.name, tool.description or "", dict(tool.input_schema or {}))
        cursor = page.next_cursor
        if not cursor:
            break
    return found


async def _asked(server: Server, session: _Session, ask: Callable[[Client], Awaitable[T]]) -> T:
    """Ask, but no longer than the session lives."""
    from mcp import MCPError

    assert session.task is not None
    asking = asyncio.ensure_future(ask(session.opened.result()))
    try:
        await asyncio.wait({asking, session.task}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise Transient(f"the MCP server {server.name} has ended meanwhile", code=_GONE)
        return asking.result()
    except HandlerError:
        raise
    except MCPError as error:
        message = f"the MCP server {server.name}: {server.scrub()(error.message)}"[:_LAST_WORDS]
        if error.code == _request_timeout():
            raise Transient(message, code="timeout") from None
        if error.code == _connection_closed():
            session.closing.set()
            session.ended = True
            raise Transient(message, code=_GONE) from None
        raise Permanent(message, code="mcp_error") from None
    except Exception as error:  # noqa: BLE001 - whatever the library raises where a server breaks off
        session.closing.set()  # in an unknown state: the next one gets another
        session.ended = True
        why = server.scrub()(_reason(error))
        raise Transient(f"the MCP server {server.name}: {why}", code=_GONE) from None
    finally:
        asking.cancel()
        with suppress(BaseException):
            await asking


def _request_timeout() -> int:
    from mcp_types import REQUEST_TIMEOUT

    return int(REQUEST_TIMEOUT)


def _connection_closed() -> int:
    from mcp_types import CONNECTION_CLOSED

    return int(CONNECTION_CLOSED)


def _reason(error: BaseException) -> str:
    """The first sentence of whatever lies deepest in a group of exceptions."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:500].rstrip(": ")


def _said(words: deque[bytes]) -> str:
    text = b"".join(words)[-_LAST_WORDS:].decode("utf-8", "replace").strip()
    return f"; it said: {text}" if text else ""
