"""The stand-in's HTTP server: the Gemini REST API on loopback, for working without a key and for tests.

It can't be taken for Google's: every response has the header `x-gemflow-stand-in`, every model version the suffix
`-stand-in`, every text a marker. It takes any key and looks at none. Does not cover files, caches, batches, embeddings
or the live API: those get a 404 of Google's shape.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import re
import signal
import sys
import time
from types import TracebackType
from typing import IO, Any, Final, Self

from aiohttp import web

from gemflowd.model.errors import ConfigError
from gemflowd.standin import replies
from gemflowd.standin.faults import Fault, Faults
from gemflowd.standin.options import Options
from gemflowd.standin.parse import Asked, BadRequest, parse
from gemflowd.standin.structured import UnfillableSchema

_LOG: Final = logging.getLogger("gemflowd.standin")
_HEADERS: Final = {"x-gemflow-stand-in": "1"}
_MAX_BODY: Final = 64 * 1024 * 1024  # bytes; Gemini itself takes 20 MB inline
# Any version, and the prefixes that Vertex AI puts before a model.
_MODEL_PATH: Final = re.compile(
    r"/[^/]+/(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/[^/]+/)?(?:tunedModels|models)"
    r"(?:/(?P<model>[^/:]+)(?::(?P<method>\w+))?)?/?"
)


async def serve(host: str, port: int, options: Options) -> StandIn:
    """Start a stand-in in the running loop. Use the result with `async with`, or close it.

    Args:
        host: a loopback address, or `localhost`.
        port: 0 for any free one; the result's `url` says which it became.
        options: how it behaves; its own host, port and descriptors don't matter here.

    Raises:
        ConfigError: the host is not a loopback address, or an option can't work.
        OSError: the port is taken.
    """
    options.check()
    address = _loopback(host)
    stand_in = StandIn(options)
    await stand_in.start(address, port)
    return stand_in


def run(options: Options) -> None:
    """Serve until SIGTERM, SIGINT, or the end of `options.parent_fd`. Prints `READY <url>` once it accepts requests.

    Raises:
        ConfigError, OSError: as for `serve`.
    """
    asyncio.run(_run(options))


class StandIn:
    """A running stand-in."""

    def __init__(self, options: Options) -> None:
        self.url = ""
        self._options = options
        self._faults = Faults(options)
        self._seen = dict.fromkeys(options.models)
        self._log: IO[str] | None = None
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen. Called by `serve`."""
        if self._options.log_file is not None:
            self._log = self._options.log_file.open("a", encoding="utf-8", buffering=1)
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(_mark)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, host, port, backlog=1024)
            await site.start()
        except OSError:
            await self.close()
            raise
        name, bound = self._runner.addresses[0][:2]
        self.url = f"http://[{name}]:{bound}" if ":" in name else f"http://{name}:{bound}"

    async def close(self) -> None:
        """Stop listening and end what is being answered."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._log is not None:
            self._log.close()
            self._log = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        found = _MODEL_PATH.fullmatch(request.path)
        model = found["model"] if found else None
        method = found["method"] if found else None
        if found and request.method == "GET" and method is None:
            body = replies.described(model) if model else {"models": [replies.described(name) for name in self._seen]}
            return self._json(request, model, 200, body)
        if found and request.method == "POST" and model and method in _METHODS:
            return await self._answer(request, model, method)
        message = f"[stand-in] There is nothing at {request.method} {request.path} in the stand-in."
        return self._json(request, model, 404, replies.error(404, message))

    async def _answer(self, request: web.Request, model: str, method: str) -> web.StreamResponse:
        try:
            asked = parse(await request.json())
        except (BadRequest, ValueError, RecursionError) as error:
            return self._json(request, model, 400, replies.error(400, f"[stand-in] {error}"))
        self._seen.setdefault(model)
        if method == "countTokens":
            return self._json(request, model, 200, replies.tokens(asked), asked)
        fault = self._faults.decide(model, asked, asyncio.get_running_loop().time())
        extra = (fault.seconds or self._options.slow) if fault and fault.kind == "slow" else 0.0
        await asyncio.sleep(self._options.latency + extra)
        if fault and fault.kind == "disconnect":
            return self._disconnect(request, model, asked)
        if fault and fault.kind.isdigit():
            status, body = replies.failure(fault, model)
            return self._json(request, model, status, body, asked, fault)
        try:
            body = replies.content(model, asked, fault)
        except UnfillableSchema as error:
            message = f"[stand-in] The response schema can't be filled from the prompt: {error}"
            return self._json(request, model, 400, replies.error(400, message), asked)
        if fault and fault.kind == "malformed":
            return self._malformed(request, model, asked, body, fault)
        if method == "streamGenerateContent":
            return await self._stream(request, model, asked, body, fault)
        return self._json(request, model, 200, body, asked, fault)

    async def _stream(
        self, request: web.Request, model: str, asked: Asked, body: dict[str, Any], fault: Fault | None
    ) -> web.StreamResponse:
        self._record(request, model, 200, asked, fault)
        if request.query.get("alt") != "sse":  # then the service sends one JSON list
            return web.json_response([body], dumps=_dumps)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):  # the client may leave when it has read enough
            for piece in replies.stream(body):
                await response.write(piece)
            await response.write_eof()
        return response

    def _malformed(
        self, request: web.Request, model: str, asked: Asked, body: dict[str, Any], fault: Fault
    ) -> web.Response:
        self._record(request, model, 200, asked, fault)
        text = _dumps(body)
        return web.Response(text=text[: len(text) // 2], content_type="application/json")

    def _disconnect(self, request: web.Request, model: str, asked: Asked) -> web.Response:
        self._record(request, model, None, asked, Fault("disconnect"))
        if request.transport is not None:
            request.transport.abort()
        return web.Response()  # goes nowhere

    def _json(
        self,
        request: web.Request,
        model: str | None,
        status: int,
        body: Any,
        asked: Asked | None = None,
        fault: Fault | None = None,
    ) -> web.Response:
        self._record(request, model, status, asked, fault)
        return web.json_response(body, status=status, dumps=_dumps)

    def _record(
        self, request: web.Request, model: str | None, status: int | None, asked: Asked | None, fault: Fault | None
    ) -> None:
        """One line of the request log. `status` is None where none was sent; prompts are there as a hash only."""
        _LOG.debug("stand-in: %s %s -> %s", request.method, request.path, status)
        if self._log is None:
            return
        line = {
            "stand_in": True,
            "at": time.time(),
            "method": request.method,
            "path": request.path,
            "model": model,
            "status": status,
            "prompt": asked.digest if asked else None,
            "fault": fault.kind if fault else None,
        }
        self._log.write(json.dumps(line) + "\n")


_METHODS: Final = frozenset({"generateContent", "streamGenerateContent", "countTokens"})


async def _mark(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _dumps(value: Any) -> str:
    # A lone surrogate in a prompt must not break the answer: as an escape it is legal JSON.
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def _loopback(host: str) -> str:
    """The address for `host`. It takes any key and logs prompts' hashes: that is for this machine only."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError([f"the stand-in's host {host!r} is not an IP address"]) from None
    if not address.is_loopback:
        raise ConfigError([f"the stand-in listens on loopback only, and {host} is not: use 127.0.0.1"])
    return str(address)


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with await serve(options.host, options.port, options) as stand_in:
        if options.parent_fd is not None:
            _stop_at_end_of(options.parent_fd, stop)
        _announce(f"READY {stand_in.url}\n", options.ready_fd)
        _LOG.info("stand-in: answering at %s with the prompts' own sentences; no model is asked", stand_in.url)
        await stop.wait()


def _stop_at_end_of(descriptor: int, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)

    def readable() -> None:
        try:
            ended = not os.read(descriptor, 4096)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            loop.remove_reader(descriptor)
            stop.set()

    loop.add_reader(descriptor, readable)


def _announce(line: str, descriptor: int | None) -> None:
    if descriptor is None:
        sys.stdout.write(line)
        sys.stdout.flush()
    else:
        os.write(descriptor, line.encode("ascii"))
