"""`results`: what has ended, in order of submission, a page at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gemflowd.model import refs
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk

MOST = 5000
#: Seconds in which more may end that is told with the first: a page of one line costs nearly as much as one of a thousand.
_TOGETHER = 0.02


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Results, body)
    if not 1 <= request.limit <= MOST:
        raise Invalid("invalid_value", f"must be from 1 to {MOST}", "limit")
    wanted = refs.parse_all(request.refs)
    if request.wait is None:
        reply(await desk.ask(desk.questions.results, wanted, request.after, request.limit))
        return
    if not 0 <= request.wait <= messages.MAX_POLL:
        raise Invalid("invalid_value", f"must be from 0 to {messages.MAX_POLL:g}; ask again to wait longer", "wait")
    deadline = desk.loop.time() + request.wait
    event = desk.waiters.add(wanted)  # before looking: what ends in between sets it
    try:
        while True:
            event.clear()
            page = await desk.ask(desk.questions.results_in_order, wanted, request.after, request.limit)
            left = deadline - desk.loop.time()
            if page["results"] or page["done"] or left <= 0 or desk.ending:
                reply(page)
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), left)
            await asyncio.sleep(min(_TOGETHER, max(0.0, left)))
    finally:
        desk.waiters.remove(event)
