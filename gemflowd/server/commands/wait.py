"""`wait`: a long poll until tasks have ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gemflowd.model import refs
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply
from gemflowd.model.states import State
from gemflowd.protocol import messages
from gemflowd.server.commands.results import MOST as MOST_RESULTS
from gemflowd.server.desk import Body, Desk


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Wait, body)
    if not 0 <= request.timeout <= messages.MAX_POLL:
        raise Invalid("invalid_value", f"must be from 0 to {messages.MAX_POLL:g}; ask again to wait longer", "timeout")
    if not 0 <= request.results <= MOST_RESULTS:
        raise Invalid("invalid_value", f"must be from 0 to {MOST_RESULTS}", "results")
    wanted = refs.parse_all(request.refs)
    if not wanted:
        raise Invalid("invalid_value", "name at least one task or flow", "refs")
    deadline = desk.loop.time() + request.timeout
    event = desk.waiters.add(wanted)  # before looking: what ends in between sets it
    try:
        while True:
            event.clear()
            counts, receiving, page = await desk.ask(desk.questions.progress, wanted, request.results)
            answer = _answer(counts, request.any, receiving) | page
            left = deadline - desk.loop.time()
            if answer["done"] or left <= 0 or desk.ending:
                reply(answer)
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), left)
            if event.is_set():
                await asyncio.sleep(min(0.02, max(0.0, left)) if answer["total"] - answer["ended"] > 100 else 0)
    finally:
        desk.waiters.remove(event)


def _answer(counts: dict[State, int], any_one: bool, receiving: bool) -> Body:
    total = sum(counts.values())
    ended = sum(count for state, count in counts.items() if state.terminal)
    done = ended > 0 if any_one else ended == total and not receiving
    return {
        "done": done,
        "total": total,
        "ended": ended,
        "tasks": {state.word: count for state, count in counts.items() if count},
    }
