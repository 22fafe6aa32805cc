"""`logs`: a task's log lines, with a long poll for the next one."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gemflowd.model import refs
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk

MOST = 5000


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
    number = answer.pop("task")
    if request.wait and not answer["lines"] and not answer["ended"]:
        event = desk.waiters.add_log(number)
        try:
            answer = await desk.ask(desk.questions.logs, ref, request.after, request.limit)
            if not answer["lines"] and not answer["ended"]:
                with suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), request.wait)
                answer = await desk.ask(desk.questions.logs, ref, request.after, request.limit)
            del answer["task"]
        finally:
            desk.waiters.remove(event)
    reply(answer)
