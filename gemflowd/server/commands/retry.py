"""`retry`: what ended without success goes back to the queue."""

from __future__ import annotations

from gemflowd.model import facts, refs
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Retry, body)
    desk.post(facts.Retry(reply, refs.parse_all(request.refs), request.downstream))
