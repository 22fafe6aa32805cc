"""The task type `gemini`: one request to a Gemini model.

The steps are in files of their own: `cached` (whether it has to be made), `credentials` (key and endpoint), `client` (the SDK set
up), `request` (data to arguments), `result` (response to result), `failures` (exceptions to codes). The SDK takes a third of a
second to import, so nothing here imports it at the top: the nursery sends the catalogue first and calls `preload` after.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from gemflowd.handlers.errors import HandlerError
from gemflowd.handlers.gemini import cached, client, warm_up
from gemflowd.handlers.gemini.credentials import Connection, connection
from gemflowd.handlers.gemini.failures import explain
from gemflowd.handlers.gemini.request import SCHEMA, Request, build_request
from gemflowd.handlers.gemini.result import result_of, usage_of
from gemflowd.handlers.registry import task

if TYPE_CHECKING:
    from google.genai import types

    from gemflowd.worker.context import AsyncContext


@task("gemini", schema=SCHEMA, bucket="gemini:{model}")
async def gemini(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """Ask a Gemini model.

    Data: `prompt` (text) or `contents` (Gemini's own form), `model`, `system`, `config` (Gemini's generation config),
    `schema` (JSON Schema of the answer) and `cache` (auto, on, read, write, refresh, off). Result: `{text, parsed?,
    finish_reason, model, usage, function_calls?, cached?, stand_in?}`.

    Raises:
        Permanent: trying again is useless: `no_api_key`, `bad_request`, `not_supported`, `blocked_safety`,
            `max_tokens`, `empty_answer`, …
        Transient: `overloaded`, `server_error`, `timeout`, `disconnected`, `bad_response`, `bad_json`, …
        RateLimited: `rate_limited` or `daily_quota`.
    """
    return await cached.answer(data, context, _answer)


async def _answer(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """What the model says. Raises as `gemini`."""
    reached = connection(context.settings, os.environ)
    try:
        request = build_request(data)
        response = await _ask(request, reached, context.timeout)
        usage = usage_of(response)
        context.usage.update(usage)
        return result_of(response, request, usage)
    except Exception as error:  # noqa: BLE001 - every one becomes an error of ours
        failure = explain(error, context.timeout)
    _scrub(failure, reached)
    # Outside the `except`: chained to it, the SDK's exception would end up in the traceback, with whatever it quotes.
    raise failure


def preload() -> None:
    """Import the SDK and make one call against nothing, for forked workers to share what that builds.

    No network, no thread, and nothing is left open.
    """
    warm_up.one_call()


async def shutdown() -> None:
    """Close the running loop's connections, before a worker ends."""
    await client.close()


async def _ask(request: Request, reached: Connection, timeout: float) -> types.GenerateContentResponse:
    """One request with a deadline for all of it; the SDK's own timeouts are per socket operation, or none."""
    asked = client.client_for(reached)
    async with asyncio.timeout(timeout):
        return await asked.aio.models.generate_content(
            model=request.model,
            # A list of the union's members is not a list of the union to the type checker.
            contents=list(request.contents),
            config=request.config,
        )


def _scrub(failure: HandlerError, reached: Connection) -> None:
    failure.message = reached.scrub(failure.message)
    failure.args = (failure.message,)
