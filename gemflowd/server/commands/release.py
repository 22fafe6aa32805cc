"""`release`: let what is held wait on as before."""

from __future__ import annotations

from gemflowd.model import facts, refs
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.commands.steering import steer
from gemflowd.server.desk import Body, Desk


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    await steer(desk, refs.parse_all(messages.read(messages.Refs, body).refs), reply, facts.Release)
