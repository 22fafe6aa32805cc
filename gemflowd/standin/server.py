"""The stand-in's HTTP server: the Gemini REST API on loopback, for working without a key and for tests.

It can't be taken for Google's: every response has the header `x-gemflow-stand-in`, every model version the suffix
`-stand-in`, every text a marker. It takes any key and looks at none. Covers content (whole and streamed), tokens, embeddings, files,
batches and the list of models; not caches or the live API: those get a 404 of Google's shape. Every endpoint is what the SDK sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import re
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from gemflowd.model.errors import ConfigError
from gemflowd.standin import replies, script
from gemflowd.standin.batches import BadBatch, Batches
from gemflowd.standin.calls import check_signatures
from gemflowd.standin.faults import Fault, Faults
from gemflowd.standin.options import Options
from gemflowd.standin.parse import Asked, BadRequest, parse, text_of
from gemflowd.standin.request_log import RequestLog
from gemflowd.standin.structured import UnfillableSchema
from gemflowd.standin.uploads import BadUpload, Uploads

_LOG: Final = logging.getLogger("gemflowd.standin")
_HEADERS: Final = {"x-gemflow-stand-in": "1"}
_MAX_BODY: Final = 64 * 1024 * 1024  # bytes; Gemini itself takes 20 MB inline
# Any version, and the prefixes that Vertex AI puts before a model.
_MODEL_PATH: Final = re.compile(
    r"/[^/]+/(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/[^/]+/)?(?:tunedModels|models)"
    r"(?:/(?P<model>[^/:]+)(?::(?P<method>\w+))?)?/?"
)
_FILE_PATH: Final = re.compile(r"/[^/]+/(?P<name>files(?:/[\w.-]+)?)(?P<download>:download)?")
_BATCH_PATH: Final = re.compile(r"/[^/]+/(?P<name>batches(?:/[\w.-]+)?)(?P<method>:cancel)?")
_UPLOAD_PATH: Final = re.compile(r"/upload/[^/]+/files")
_MOST_DIMENSIONS: Final = 4096


async def serve(host: str, port: int, options: Options) -> StandIn:
    """Start a stand-in in the running loop. Use the result with `async with`, or close it.

    Args:
        host: a loopback address, or `localhost`.
        port: 0 for any free one; the result's `url` says which it became.
        options: how it behaves; its own host, port and descriptors don't matter here.

    Raises:
        ConfigError: the host is not a loopback address, or an option or the script can't work.
        OSError: the port is taken.
    """
    options.check()
    address = _loopback(host)
    stand_in = StandIn(options)
    await stand_in.start(address, port)
    return stand_in


class StandIn:
    """A running stand-in."""

    def __init__(self, options: Options) -> None:
        self.url = ""
        self._options = options
        self._faults = Faults(options)
        self._script = None if options.script is None else script.load(options.script)
        self._seen = dict.fromkeys(options.models)
        self._log = RequestLog(options.log_file)
        self._uploads = Uploads("")
        self._batches = Batches(self._uploads, self._answer_in_batch)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen. Called by `serve`."""
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
        self._uploads.url = self.url

    async def close(self) -> None:
        """Stop listening and end what is being answered."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._log.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if found := _MODEL_PATH.fullmatch(request.path):
            return await self._models(request, found["model"], found["method"])
        if _UPLOAD_PATH.fullmatch(request.path) and request.method == "POST":
            return await self._upload(request)
        if found := _FILE_PATH.fullmatch(request.path):
            return self._files(request, found["name"], download=bool(found["download"]))
        if found := _BATCH_PATH.fullmatch(request.path):
            return self._batch(request, found["name"], cancel=bool(found["method"]))
        return self._nothing(request)

    def _nothing(self, request: web.Request, what: str | None = None) -> web.Response:
        message = f"[stand-in] There is {what or f'nothing at {request.method} {request.path} in the stand-in'}."
        return self._json(request, None, 404, replies.error(404, message))

    async def _models(self, request: web.Request, model: str | None, method: str | None) -> web.StreamResponse:
        if request.method == "GET" and method is None:
            body = replies.described(model) if model else {"models": [replies.described(name) for name in self._seen]}
            return self._json(request, model, 200, body)
        if request.method == "POST" and model and method:
            if method in _CONTENT:
                return await self._content(request, model, method)
            if method == "batchEmbedContents":
                return await self._embed(request, model)
            if method == "batchGenerateContent":
                return await self._new_batch(request, model)
        return self._nothing(request)

    # Content

    async def _content(self, request: web.Request, model: str, method: str) -> web.StreamResponse:
        try:
            body = await request.json()
            asked = parse(body)
            check_signatures(body.get("contents"))
        except (BadRequest, ValueError, RecursionError) as error:
            return self._json(request, model, 400, replies.error(400, f"[stand-in] {error}"))
        self._seen.setdefault(model)
        if missing := next((name for name in asked.files if self._uploads.get(name) is None), None):
            message = f"[stand-in] You do not have permission to access the file {missing}, or it does not exist."
            return self._json(request, model, 403, replies.error(403, message), asked)
        if method == "countTokens":
            return self._json(request, model, 200, replies.tokens(asked), asked, outcome="counted")
        fault = self._faults.decide(model, asked, asyncio.get_running_loop().time())
        extra = (fault.seconds or self._options.slow) if fault and fault.kind == "slow" else 0.0
        await asyncio.sleep(self._options.latency + extra)
        streams = method == "streamGenerateContent"
        if fault and (fault.kind == "disconnect" or (fault.kind == "break" and not streams)):
            return self._disconnect(request, model, asked)
        status, body = self._answer(model, asked, fault)
        if status != 200:
            return self._json(request, model, status, body, asked, fault)
        if fault and fault.kind == "malformed":
            return self._malformed(request, model, asked, body, fault)
        if streams:
            return await self._stream(request, model, asked, body, fault)
        return self._json(request, model, 200, body, asked, fault)

    def _answer(self, model: str, asked: Asked, fault: Fault | None) -> tuple[int, dict[str, Any]]:
        if fault and fault.kind.isdigit():
            return replies.failure(fault, model)
        try:
            said = None
            if self._script is not None and (fault is None or fault.kind in _ANSWERED):
                said = self._script.answer(model, asked)
            return 200, replies.content(model, asked, fault, said)
        except UnfillableSchema as error:
            message = f"[stand-in] The response schema can't be filled from the prompt: {error}"
            return 400, replies.error(400, message)

    async def _stream(
        self, request: web.Request, model: str, asked: Asked, body: dict[str, Any], fault: Fault | None
    ) -> web.StreamResponse:
        if request.query.get("alt") != "sse":  # then the service sends one JSON list
            self._record(request, model, 200, asked, fault, body)
            return web.json_response([body], dumps=_dumps)
        response = web.StreamResponse(headers={"content-type": "text/event-stream", _TIER: asked.tier})
        await response.prepare(request)
        pause = fault.seconds if fault and fault.kind == "pieces" else self._options.pause
        *before, last = replies.stream(body)
        try:
            for piece in before:
                await response.write(piece)
                if fault and fault.kind == "break":
                    break
                await asyncio.sleep(pause or 0.0)
        except ConnectionError:  # it does not want the rest
            self._record(request, model, 200, asked, fault, body, outcome="left")
            return response
        self._record(request, model, 200, asked, fault, body)
        with contextlib.suppress(ConnectionError):
            if not (fault and fault.kind == "break"):
                await response.write(last)
            await response.write_eof()
        return response

    def _malformed(
        self, request: web.Request, model: str, asked: Asked, body: dict[str, Any], fault: Fault
    ) -> web.Response:
        self._record(request, model, 200, asked, fault, body)
        text = _dumps(body)
        return web.Response(text=text[: len(text) // 2], content_type="application/json")

    def _disconnect(self, request: web.Request, model: str, asked: Asked) -> web.Response:
        self._record(request, model, None, asked, Fault("disconnect"))
        if request.transport is not None:
            request.transport.abort()
        return web.Response()  # goes nowhere

    async def _embed(self, request: web.Request, model: str) -> web.Response:
        try:
            items = _requests(await request.json())
            texts = [text_of(item.get("content")) for item in items]
            dimensions = items[0].get("outputDimensionality") or items[0].get("output_dimensionality")
            if dimensions is not None and not 1 <= int(dimensions) <= _MOST_DIMENSIONS:
                raise BadRequest(f"outputDimensionality must be from 1 to {_MOST_DIMENSIONS}")
        except (BadRequest, ValueError, TypeError, RecursionError) as error:
            return self._json(request, model, 400, replies.error(400, f"[stand-in] {error}"))
        asked = Asked("", texts[0], "\0".join(texts), None, False, None, turns=tuple(texts))
        fault = self._faults.decide(model, asked, asyncio.get_running_loop().time())
        await asyncio.sleep(self._options.latency)
        if fault and fault.kind == "disconnect":
            return self._disconnect(request, model, asked)
        if fault and fault.kind.isdigit():
            status, body = replies.failure(fault, model)
            return self._json(request, model, status, body, asked, fault)
        body = replies.embeddings(texts, None if dimensions is None else int(dimensions))
        return self._json(request, model, 200, body, asked, fault)

    # Files

    async def _upload(self, request: web.Request) -> web.Response:
        headers = request.headers
        commands = {command.strip() for command in headers.get("x-goog-upload-command", "").split(",")}
        try:
            if "start" in commands:
                name = self._uploads.start(
                    await request.json(),
                    headers.get("x-goog-upload-header-content-type"),
                    headers.get("x-goog-upload-header-content-length"),
                )
                self._record(request, None, 200, outcome="started")
                url = f"{self.url}{request.path}?upload_id={name}&upload_protocol=resumable"
                return web.json_response({}, headers={"x-goog-upload-url": url, "x-goog-upload-status": "active"})
            stored = self._uploads.take(
                request.query.get("upload_id", ""),
                headers.get("x-goog-upload-offset"),
                await request.read(),
                last="finalize" in commands,
            )
        except (BadUpload, ValueError) as error:
            response = self._json(request, None, 400, replies.error(400, f"[stand-in] {error}"))
            response.headers["x-goog-upload-status"] = "final"
            return response
        response = self._json(
            request, None, 200, {"file": stored} if stored else {}, outcome="stored" if stored else "received"
        )
        response.headers["x-goog-upload-status"] = "final" if stored else "active"
        return response

    def _files(self, request: web.Request, name: str, *, download: bool) -> web.Response:
        if name == "files" and request.method == "GET":
            return self._json(request, None, 200, {"files": list(self._uploads)}, outcome="listed")
        described, content = self._uploads.get(name), self._uploads.content(name)
        if described is None or content is None:
            return self._nothing(request, f"no {name}")
        if download and request.method == "GET":
            self._record(request, None, 200, outcome="read")
            return web.Response(body=content, content_type=str(described["mimeType"]).partition(";")[0])
        if request.method == "DELETE":
            self._uploads.delete(name)
            return self._json(request, None, 200, {}, outcome="deleted")
        return self._json(request, None, 200, described, outcome="shown")

    # Batches

    async def _new_batch(self, request: web.Request, model: str) -> web.Response:
        try:
            batch = self._batches.create(model, await request.json())
        except (BadBatch, ValueError, RecursionError) as error:
            return self._json(request, model, 400, replies.error(400, f"[stand-in] {error}"))
        asyncio.get_running_loop().call_later(self._options.batch_seconds, self._batches.finish, batch)
        return self._json(request, model, 200, batch.described(), outcome="accepted")

    def _answer_in_batch(self, model: str, body: Any) -> tuple[dict[str, Any], str | None]:
        """Each has what its marker asks for, and no quota: batches have their own."""
        try:
            asked = parse(body)
        except (BadRequest, RecursionError) as error:
            return {"error": replies.error(400, f"[stand-in] {error}")["error"]}, None
        fault = self._faults.marked(model, asked)
        if fault and fault.kind in ("malformed", "disconnect", "break"):
            fault = Fault("500")
        status, answered = self._answer(model, asked, fault)
        end = fault.kind if fault and fault.kind.startswith("batch_") else None
        path = f"/batches/{model}"
        self._log.add("BATCH", path, model, status, asked, fault, answered, tier="batch", outcome=end)
        return ({"response": answered} if status == 200 else {"error": answered["error"]}), end

    def _batch(self, request: web.Request, name: str, *, cancel: bool) -> web.Response:
        if name == "batches" and request.method == "GET":
            operations = [batch.described() for batch in self._batches]
            return self._json(request, None, 200, {"operations": operations}, outcome="listed")
        batch = self._batches.get(name)
        if batch is None:
            return self._nothing(request, f"no {name}")
        if cancel and request.method == "POST":
            self._batches.cancel(name)
            return self._json(request, batch.model, 200, {}, outcome="cancelled")
        if request.method == "DELETE":
            self._batches.delete(name)
            return self._json(request, batch.model, 200, {}, outcome="deleted")
        return self._json(request, batch.model, 200, batch.described(), outcome="shown")

    # All

    def _json(
        self,
        request: web.Request,
        model: str | None,
        status: int,
        body: Any,
        asked: Asked | None = None,
        fault: Fault | None = None,
        outcome: str | None = None,
    ) -> web.Response:
        self._record(request, model, status, asked, fault, body, outcome=outcome)
        headers = {_TIER: asked.tier} if asked and status == 200 else None
        return web.json_response(body, status=status, dumps=_dumps, headers=headers)

    def _record(
        self,
        request: web.Request,
        model: str | None,
        status: int | None,
        asked: Asked | None = None,
        fault: Fault | None = None,
        body: Any = None,
        *,
        outcome: str | None = None,
    ) -> None:
        self._log.add(request.method, request.path, model, status, asked, fault, body, outcome=outcome)


_CONTENT: Final = frozenset({"generateContent", "streamGenerateContent", "countTokens"})
#: Faults that an answer comes with all the same.
_ANSWERED: Final = frozenset({"slow", "pieces", "break"})
#: The header that says which tier of service it was.
_TIER: Final = "x-gemini-service-tier"


def _requests(body: Any) -> list[dict[str, Any]]:
    items = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise BadRequest("* BatchEmbedContentsRequest.requests: requests is not specified")
    return items


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
