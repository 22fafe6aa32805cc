"""The task types `gemini`, `gemini.embed` and `gemini.count`: one request each to a Gemini model.

The steps are in files of their own: `cached` (whether it has to be made), `credentials` (key and endpoint), `client` (the SDK set
up), `request` and `files` (data to arguments), `streaming` (an answer in pieces), `result` (response to result), `structured` (whether
it fits), `before` (what an earlier attempt came to), `tiers` (cheaper ones), `failures` (exceptions to codes). The SDK takes a third of
a second to import, so nothing here imports it at the top: the nursery sends the catalogue first and calls `preload` after.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from gemflowd.handlers.errors import Again, HandlerError, Instead, Permanent, RateLimited, Transient
from gemflowd.handlers.gemini import batch, batched, cached, client, tiers, warm_up
from gemflowd.handlers.gemini.before import Before, before, name_next_model, unfit
from gemflowd.handlers.gemini.credentials import Connection, connection, scrubbing
from gemflowd.handlers.gemini.failures import explain
from gemflowd.handlers.gemini.files import attached
from gemflowd.handlers.gemini.jobs import Jobs
from gemflowd.handlers.gemini.request import Request, as_sent, build_request, contents_of, model_of, with_files
from gemflowd.handlers.gemini.result import breaks_off, embeddings_of, result_of, stand_in, usage_of, withheld
from gemflowd.handlers.gemini.schema import COUNT_SCHEMA, EMBED_SCHEMA, SCHEMA
from gemflowd.handlers.gemini.streaming import collect
from gemflowd.handlers.gemini.structured import Unfit, check_schema, value_of
from gemflowd.handlers.registry import task

if TYPE_CHECKING:
    from google.genai import Client, types

    from gemflowd.worker.context import AsyncContext

_MAX_REASKS: Final = 2


@task("gemini", schema=SCHEMA, bucket="gemini:{model}")
async def gemini(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """Ask a Gemini model.

    Data: `prompt` (text) or `contents` (Gemini's own form), `model`, `fallback` (models to ask where that can't be had), `system`,
    `config` (Gemini's generation config), `tier` (auto, flex, batch, standard, priority) with `deadline`, `service_tier`, `files` (of the
    workspace), `schema` (JSON Schema of the answer) with `max_reasks`, `stream` (the answer's pieces go into the log) and `cache` (auto,
    on, read, write, refresh, off). Result: `{text, parsed?, finish_reason, model, usage, function_calls?, cached?, stand_in?}`.

    Raises:
        Permanent: trying again is useless: `no_api_key`, `bad_request`, `not_supported`, `blocked_safety`,
            `max_tokens`, `empty_answer`, `schema_mismatch`, …
        Transient: `overloaded`, `server_error`, `timeout`, `disconnected`, `bad_response`, …
        RateLimited: `rate_limited` or `daily_quota`.
        Again: the answer does not fit the schema, and may be asked for once more; or a cheaper tier is left.
        Parked: the tier has no room now.
    """
    if batched.is_parked(context.note):
        return await _from_batch(data, context)
    return await cached.answer(data, context, _answer)


async def _answer(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """What the model says. Raises as `gemini`."""
    earlier = before(context.note, context.agains)
    way = tiers.way_of(data, context.note, context.settings, context.timeout, time.time())
    data = tiers.written_into(data, way)
    async with _Calling(context, way.timeout) as call:
        request = build_request(data, earlier)  # for what is wrong with it, before anything is uploaded
        call.model = request.model
        if request.schema is not None:
            check_schema(request.schema)
        if way.tier == "batch":
            raise await batched.join(request, way, context)
        async with attached(data, context, call.client) as files:
            if files:
                request = build_request(data, earlier, files)
            response = await _ask(call.client, request, context if data.get("stream") else None)
        return _result(response, request, earlier, data, context, usage_of(response))
    if data.get("stream"):  # so that nobody takes what stands above for an answer
        context.log(f"[attempt {context.attempt} is not an answer: {call.failure.message}]")
    if (otherwise := tiers.without_room(call.failure, way, context.note, time.time())) is not None:
        raise otherwise
    name_next_model(call.failure, call.model, data)
    _keep_tier(call.failure, context)
    # Outside of the block: chained to it, the SDK's exception would end up in the traceback, with whatever it quotes.
    raise call.failure


async def _from_batch(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """What a batch has answered. Raises as `gemini`."""
    earlier = before(context.note, context.agains)
    async with _Calling(context) as call:
        request = build_request(data, earlier)
        call.model = request.model
        way = tiers.way_of(data, context.note, context.settings, context.timeout, time.time())
        response = await batched.take(context, way.until)
        usage = {**usage_of(response), "service_tier": "batch"}

        async def answered(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
            context.usage["model"] = request.model  # the limit that it is under now is no model's
            try:
                return _result(response, request, earlier, data, context, usage)
            except Transient as failed:
                failed.instead = batched.standard(context.note)  # it was the answer: it is not to be taken again
                raise

        return await cached.answer(data, context, answered, asked=True)
    name_next_model(call.failure, call.model, data)
    _keep_tier(call.failure, context, f"gemini:{call.model}")
    raise call.failure


def _keep_tier(failure: HandlerError, context: AsyncContext, bucket: str | None = None) -> None:
    """An answer that did not do is asked for again at the tier that the task had come down to.

    Args:
        bucket: the limit for that, where this attempt was under another: one that comes from a batch is none of a model's.
    """
    instead = failure.instead
    if isinstance(failure, Again) and instead is not None and instead.bucket is None and isinstance(instead.note, dict):
        note = dict(instead.note)
        if isinstance(context.note, Mapping) and "tier" in context.note:
            note.setdefault("tier", context.note["tier"])
        failure.instead = Instead(note, bucket, anew=False)


def _result(
    response: types.GenerateContentResponse,
    request: Request,
    earlier: Before,
    data: dict[str, Any],
    context: AsyncContext,
    usage: dict[str, Any],
) -> dict[str, Any]:
    """The task's result, held against its schema. Raises as `gemini`."""
    context.usage.update(usage)
    result = result_of(response, request, usage)
    if (blocked := withheld(result)) is not None:
        if not data.get("stream"):  # else it is there
            context.log(result["text"], "text")
        raise blocked
    if request.structured and "function_calls" not in result:
        try:
            result["parsed"] = value_of(result["text"], request.schema)
        except Unfit as why:
            most = data.get("max_reasks", context.settings.get("max_reasks", _MAX_REASKS))
            raise breaks_off(result) or unfit(earlier, result["text"], str(why), most, why.code, usage) from None
    return result


@task("gemini.batch", schema=batch.SCHEMA)
async def carry_batch(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """Carry a batch of questions to Gemini and back. The daemon submits these tasks itself, for tasks with the tier `batch`.

    Data: `model`. Result: `{state, items, answered}`.

    Raises:
        Permanent: `not_found`, the task carries no batch.
        Transient, RateLimited: as `gemini`.
        Parked: Gemini works at it.
    """
    async with _Calling(context) as call:
        return await batch.carry(Jobs(call.connection), context)
    if isinstance(call.failure, Permanent):  # such as a key that is refused: those who wait try for themselves
        await context.batch.end(call.failure.code)
    raise call.failure


@task("gemini.embed", schema=EMBED_SCHEMA, bucket="gemini:{model}")
async def embed(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """Embed texts: a list of numbers for each.

    Data: `text` or `texts` (100 at most), `model`, `task_type`, `title`, `dimensions`. Result: `{embeddings: [[…], …], dimensions,
    model, usage, stand_in?}`.

    Raises:
        Permanent, Transient, RateLimited: as `gemini`.
    """
    async with _Calling(context) as call:
        from google.genai import types

        texts = data.get("texts") or [data["text"]]
        config = types.EmbedContentConfig(
            task_type=data.get("task_type"), title=data.get("title"), output_dimensionality=data.get("dimensions")
        )
        # Each a content of its own: some models take a list of texts for parts of one.
        contents: list[Any] = [types.Content(parts=[types.Part(text=text)]) for text in texts]
        response = await call.client.aio.models.embed_content(model=model_of(data), contents=contents, config=config)
        usage = usage_of(response)
        context.usage.update(usage)
        return embeddings_of(response, len(texts), model_of(data), usage)
    raise call.failure


@task("gemini.count", schema=COUNT_SCHEMA, bucket="gemini.count:{model}")
async def count(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """Count the tokens of a question without asking it.

    Data: `prompt` or `contents`, `system`, `model`, `files`, as in a `gemini` task. Result: `{total_tokens, cached_tokens, model,
    stand_in?}`.

    Raises:
        Permanent, Transient, RateLimited: as `gemini`.
    """
    async with _Calling(context) as call:
        model, contents = model_of(data), contents_of(data)
        async with attached(data, context, call.client) as files:
            contents = with_files(contents, files)
            if data.get("system"):  # the SDK counts it with Vertex AI alone, so it is counted as a turn
                contents = [*contents_of({"prompt": data["system"]}), *contents]
            response = await call.client.aio.models.count_tokens(model=model, contents=as_sent(contents))
        found = {
            "total_tokens": response.total_tokens or 0,
            "cached_tokens": response.cached_content_token_count or 0,
            "model": model,
        }
        return found | stand_in(response)
    raise call.failure


def preload(settings: Mapping[str, Any]) -> None:
    """Import the SDK and make one call against nothing, for forked workers to share what that builds.

    No network, no thread, and nothing is left open. Where there is no key no call can be made, and nobody shall pay 40 MB for it.
    """
    with suppress(Permanent):
        connection(settings, os.environ)
        warm_up.one_call()


async def shutdown() -> None:
    """Close the running loop's connections, before a worker ends."""
    await client.close()


async def _ask(client: Client, request: Request, listening: AsyncContext | None) -> types.GenerateContentResponse:
    """One request; its answer in pieces for who listens."""
    contents = as_sent(request.contents)
    models = client.aio.models
    if listening is None:
        return await models.generate_content(model=request.model, contents=contents, config=request.config)
    chunks = await models.generate_content_stream(model=request.model, contents=contents, config=request.config)
    return await collect(chunks, listening.emit, listening.usage)


class _Calling:
    """Brackets a call: one deadline for all of it (the SDK's are per socket operation, or none), and every error becomes one of ours.

    Attributes:
        model: that is asked.
        failure: why the block ended, when it did not return.
    """

    failure: HandlerError

    def __init__(self, context: AsyncContext, timeout: float | None = None) -> None:
        self.model = ""
        self._timeout = context.timeout if timeout is None else timeout
        self._settings = context.settings
        # Also where nobody is called: what a batch has brought are Google's words, too.
        self._scrub = scrubbing(context.settings, os.environ)
        self._deadline = asyncio.timeout(self._timeout)

    @property
    def connection(self) -> Connection:
        """Raises Permanent: `no_api_key`, `bad_api_key`."""
        reached = connection(self._settings, os.environ)
        self._scrub = reached.scrub
        return reached

    @property
    def client(self) -> Client:
        """Raises Permanent: `no_api_key`, `bad_api_key`; and what the SDK does about credentials."""
        return client.client_for(self.connection)

    async def __aenter__(self) -> Self:
        await self._deadline.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            await self._deadline.__aexit__(kind, error, trace)
        except TimeoutError as late:
            error = late
        if not isinstance(error, Exception):
            return False
        self.failure = explain(error, self._timeout)
        self.failure.message = self._scrub(self.failure.message)
        self.failure.args = (self.failure.message,)
        if isinstance(self.failure, RateLimited) and self.failure.quota:
            self.failure.quota = [{name: self._scrub(word) for name, word in one.items()} for one in self.failure.quota]
        return True
