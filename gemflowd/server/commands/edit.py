"""`edit`: another priority for what has not ended."""

from __future__ import annotations

from gemflowd.model import facts, refs
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.commands.steering import steer
from gemflowd.server.desk import Body, Desk
from gemflowd.server.new_task import check_priority


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Edit, body)
    check_priority(request.priority, "priority")
    named = refs.parse_all(request.refs)
    await steer(desk, named, reply, lambda reply, piece: facts.Edit(reply, piece, request.priority))
