"""`retry`: what ended without success goes back to the queue."""

from __future__ import annotations

from gemflowd.model import facts, refs
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.commands.steering import steer
from gemflowd.server.desk import Body, Desk


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Retry, body)
    named = refs.parse_all(request.refs)
    await steer(desk, named, reply, lambda reply, piece: facts.Retry(reply, piece, request.downstream))
