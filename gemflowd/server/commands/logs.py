"""`logs`: log lines of a task or a flow, with a long poll for the next one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from gemflowd.model import refs
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk

MOST: Final = 5000
#: Seconds between two looks for new lines of a flow.
_EVERY: Final = 0.1


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Logs, body)
    if not 1 <= request.limit <= MOST:
        raise Invalid("invalid_value", f"must be from 1 to {MOST}", "limit")
    if request.after < 0:
        raise Invalid("invalid_value", "must not be negative", "after")
    if not 0 <= request.wait <= messages.MAX_POLL:
        raise Invalid("invalid_value", f"must be from 0 to {messages.MAX_POLL:g}", "wait")
    ref = refs.parse(request.ref, "ref")
    answer = await desk.ask(desk.questions.logs, ref, request.after, request.limit)
    task = answer.pop("task")
    if request.wait and not answer["lines"] and not answer["ended"]:
        event = desk.waiters.add_any_log() if isinstance(ref, refs.FlowRef) else desk.waiters.add_log(task)
        try:
            answer = await _next(desk, ref, request, answer["next"], event)
        finally:
            desk.waiters.remove(event)
    reply(answer)


async def _next(desk: Desk, ref: refs.Ref, request: messages.Logs, after: int, event: asyncio.Event) -> Body:
    """The first lines that come after `after`. Of a flow every line of any task is a reason to look, but not more often than `_EVERY`."""
    end = desk.loop.time() + request.wait
    while True:
        event.clear()
        answer: Body = await desk.ask(desk.questions.logs, ref, after, request.limit)
        answer.pop("task")
        before, after = after, answer["next"]
        left = end - desk.loop.time()
        if answer["lines"] or answer["ended"] or left <= 0 or desk.ending:
            return answer
        if after != before:
            continue  # only lines of other flows, and there may be more of them
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), left)
        await asyncio.sleep(min(_EVERY, max(0.0, end - desk.loop.time())) if isinstance(ref, refs.FlowRef) else 0)
