"""`delete`: remove flows that have ended, with all that is kept of them."""

from __future__ import annotations

from gemflowd.model import facts, refs
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


def handle(desk: Desk, body: Body, reply: Reply) -> None:
    desk.post(facts.Delete(reply, refs.parse_all(messages.read(messages.Refs, body).refs)))
