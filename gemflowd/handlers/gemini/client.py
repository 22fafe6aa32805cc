"""One SDK client for each event loop, set up so that one call is one request.

The SDK as it comes stops at 100 connections without a word, sends a dropped request again by itself, and ignores
what the server says about when to come back. Trying again is the daemon's business: it knows the quota. So the
client gets a session of ours without a limit and no retries.

The SDK is imported when the first client is made, or by `preload`; never when this module is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.request import getproxies_environment
from weakref import WeakKeyDictionary

from gemflowd.handlers.gemini.credentials import Connection

if TYPE_CHECKING:
    import aiohttp
    from google.genai import Client


class _Held:
    """What one event loop holds. Sessions are bound to their loop, and so to a process."""

    def __init__(self) -> None:
        self.sessions: dict[bool, aiohttp.ClientSession] = {}  # by whether proxies are honoured
        self.connection: Connection | None = None
        self.client: Client | None = None


_HELD: WeakKeyDictionary[asyncio.AbstractEventLoop, _Held] = WeakKeyDictionary()


def client_for(connection: Connection) -> Client:
    """The client of the running loop; a new one when the key or the endpoint has changed.

    Raises:
        google.auth.exceptions.GoogleAuthError, ValueError: the SDK finds no usable credentials.
    """
    held = _HELD.setdefault(asyncio.get_running_loop(), _Held())
    if held.client is None or held.connection != connection:
        # With Vertex AI this may look up credentials and block, once for each worker: the SDK has no other way.
        held.client = _make(connection, _session(held, proxies=not connection.offline and _proxies_are_set()))
        held.connection = connection
    return held.client


async def close() -> None:
    """Close the connections of the running loop. A later call opens new ones."""
    held = _HELD.pop(asyncio.get_running_loop(), None)
    if held is None:
        return
    if held.client is not None:
        await held.client.aio.aclose()
        held.client.close()
    for session in held.sessions.values():
        await session.close()


def _session(held: _Held, *, proxies: bool) -> aiohttp.ClientSession:
    import aiohttp

    session = held.sessions.get(proxies)
    if session is None or session.closed:
        session = held.sessions[proxies] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Never between us and the stand-in on this machine. Where there are none aiohttp would still look for them, and for
            # a netrc file, on a thread before each request: 0.3 ms of CPU for each call, about as much as all the rest of it.
            trust_env=proxies,
        )
    return session


def _proxies_are_set() -> bool:
    """Whether the environment names any (HTTPS_PROXY and its like)."""
    return bool(getproxies_environment())


def _make(connection: Connection, session: aiohttp.ClientSession) -> Client:
    from google.genai import Client, types

    options = types.HttpOptions(
        base_url=connection.endpoint,
        api_version=connection.api_version,
        aiohttp_client=session,
        # Not None: without retry options the SDK sends once more by itself after a dropped connection.
        retry_options=types.HttpRetryOptions(attempts=1),
    )
    if connection.key is None:
        return Client(http_options=options)  # Vertex AI, by the environment
    return Client(api_key=connection.key, vertexai=False, http_options=options)
