"""`drain`: start nothing more, let what runs end, and stay; or start things again."""

from __future__ import annotations

from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Drain, body)
    desk.drain(not request.off, reply)
