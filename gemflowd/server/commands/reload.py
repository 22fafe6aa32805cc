"""`reload`: read the settings again, as SIGHUP does, and say what came of it."""

from __future__ import annotations

from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    messages.read(messages.Body, body)
    reply(await desk.reload())
