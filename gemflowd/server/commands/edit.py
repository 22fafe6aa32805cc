"""`edit`: another priority for what has not ended."""

from __future__ import annotations

from gemflowd.model import facts, refs
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.commands.submit import check_priority
from gemflowd.server.desk import Body, Desk


def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Edit, body)
    check_priority(request.priority, "priority")
    desk.post(facts.Edit(reply, refs.parse_all(request.refs), request.priority))
