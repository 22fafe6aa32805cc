"""Whether a question has to be asked at all: the hook between the handler and the cache of model calls.

Covers: what a task says about the cache, the key of a request, and what a stored answer becomes. The cache itself is the daemon's
(`gemflowd/engine/cache.py`).

The key is a hash of the request as it is sent, after templates were rendered: where it goes, model, contents and every setting that
can change the answer. Prompts are in the cache as part of that hash alone, and API keys not even so.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.errors import Permanent
from gemflowd.handlers.gemini.before import before
from gemflowd.handlers.gemini.request import Request, build_request, config_of
from gemflowd.handlers.gemini.streaming import Pieces
from gemflowd.model.cache import KEY_BYTES, WORDS
from gemflowd.model.calls import uses_vertex

if TYPE_CHECKING:
    from gemflowd.worker.context import AsyncContext

Answer = dict[str, Any]

#: Goes up when the same request would give another key, or when results have another form.
VERSION: Final = 2
#: Of a request's settings: they have no influence on the answer.
_NO_MATTER: Final = ("http_options", "labels", "service_tier", "automatic_function_calling", "automatic_continuation")
_COMPLETE: Final = "STOP"


async def answer(
    data: dict[str, Any],
    context: AsyncContext,
    ask: Callable[[dict[str, Any], AsyncContext], Awaitable[Answer]],
    *,
    asked: bool = False,
) -> Answer:
    """The result of a `gemini` task: a stored one, that of an identical call in flight, or what `ask` returns.

    Args:
        asked: the call was made and is to be paid for: its answer may be stored, and no other one will do.

    Raises:
        Permanent: `bad_request`, `not_supported`, and what `build_request` raises.
        RateLimited: an identical call has met a quota.
        RequestRefused: the daemon refused to be asked.
    """
    word = _word(data, context.settings)
    if word == "off":
        return await ask(data, context)
    if word == "auto":
        if config_of(data).temperature != 0:
            return await ask(data, context)
        word = "on"
    request = build_request(data)
    if asked:
        if word == "read":
            return await ask(data, context)
        word = "replace" if word == "refresh" else "write"
    key = key_of(request, context.settings, os.environ)
    found = await context.cache.begin(key, request.model, word)
    if found is not None:
        return _used(found, data, context)
    result = await ask(data, context)
    if not _complete(result) or _of_another_model(request, context):
        await context.cache.leave()
    return result


def key_of(request: Request, settings: Mapping[str, Any], environment: Mapping[str, str]) -> bytes:
    """The hash of a request: the same for two that can only get the same answer.

    What stands in an order that means nothing (the settings) has one here; the order inside of a schema is the sender's.
    """
    config = request.config.model_dump(mode="json", exclude_none=True, exclude=set(_NO_MATTER))
    asked = [
        VERSION,
        _where(settings, environment),
        request.model.removeprefix("models/"),
        [content.model_dump(mode="json", exclude_none=True) for content in request.contents],
        config,
    ]
    return hashlib.blake2b(json.dumps(asked).encode(), digest_size=KEY_BYTES).digest()


def _where(settings: Mapping[str, Any], environment: Mapping[str, str]) -> list[Any]:
    """Who answers. An answer of the stand-in must never pass for one of a model."""
    if settings.get("gemini_offline"):
        return ["stand-in"]  # its port is another one each time
    endpoint = settings.get("gemini_endpoint") or environment.get("GOOGLE_GEMINI_BASE_URL") or None
    return [endpoint, uses_vertex(environment), settings.get("gemini_api_version") or None]


def _word(data: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """What the task says, else the setting. Raises Permanent: the task says something else (a template may)."""
    said = data.get("cache")
    if said is not None and said not in WORDS:
        raise Permanent(f"`cache` must be one of {', '.join(WORDS)}", code="bad_request")
    if data.get("files"):  # what is in them is not known here
        if said not in (None, "auto", "off"):
            raise Permanent("answers about `files` are not cached: leave `cache` out", code="not_supported")
        return "off"
    return str(said or settings.get("cache") or "auto")


def _used(found: Any, data: Mapping[str, Any], context: AsyncContext) -> Answer:
    """An answer that cost nothing. Its usage is that of the call that was made once."""
    result: Answer = {**found, "cached": True}
    if data.get("stream"):
        pieces = Pieces(context.emit)
        pieces.add(result["text"])
        pieces.flush()
    saved = result.get("usage") or {}
    context.usage.update({"cached": True, "saved_tokens": saved.get("total_tokens", 0), "saved": saved})
    return result


def _of_another_model(request: Request, context: AsyncContext) -> bool:
    """Whether it was one of `fallback` that was asked: who names the same model first wants that one's answer."""
    return (before(context.note, context.agains).model or request.model) != request.model


def _complete(result: Answer) -> bool:
    return result.get("finish_reason") == _COMPLETE
