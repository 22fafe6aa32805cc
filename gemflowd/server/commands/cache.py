"""`cache_begin`, `cache_leave`: what running attempts ask of the cache of model calls; `cache_stats`, `cache_list`,
`cache_clear`: what people do."""

from __future__ import annotations

from typing import Final

from gemflowd.model import facts
from gemflowd.model.cache import KEY_BYTES, MODES
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply, Speaker
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk

MOST: Final = 1000


async def begin(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> None:
    """The answer may be a while in coming: somebody else makes the call."""
    request = messages.read(messages.CacheBegin, body)
    if len(request.key) != KEY_BYTES:
        raise Invalid("invalid_value", f"must have {KEY_BYTES} bytes", "key")
    mode = MODES.get(request.mode)
    if mode is None:
        raise Invalid("invalid_value", f"must be one of {', '.join(MODES)}", "mode")
    while True:
        found = await desk.decide(lambda told: facts.BeginCall(told, request.key, request.model, mode, speaker))
        if "entry" not in found:
            reply(found)
            return
        # The engine has other things to do than to read it. It may have gone since, for want of room.
        value = await desk.ask(desk.questions.cached_value, found["entry"])
        if value is not None:
            reply({"value": value})
            return


def leave(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> None:
    messages.read(messages.Body, body)
    desk.post(facts.LeaveCall(reply, speaker))


async def stats(desk: Desk, body: Body, reply: Reply) -> None:
    messages.read(messages.Body, body)
    reply(await desk.ask(desk.questions.cache_stats))


async def list_entries(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.CacheList, body)
    if not 1 <= request.limit <= MOST:
        raise Invalid("invalid_value", f"must be from 1 to {MOST}", "limit")
    reply(await desk.ask(desk.questions.cache_entries, request.limit))


def clear(desk: Desk, body: Body, reply: Reply) -> None:
    messages.read(messages.Body, body)
    desk.post(facts.ClearCache(reply))
