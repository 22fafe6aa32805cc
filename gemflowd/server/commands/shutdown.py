"""`shutdown`: stop the daemon, with or without waiting for what runs."""

from __future__ import annotations

from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Shutdown, body)
    reply({"state": "draining"})
    desk.shutdown(request.drain)
