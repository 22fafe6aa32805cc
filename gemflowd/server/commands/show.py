"""`show`: everything about one task, or a flow."""

from __future__ import annotations

from gemflowd.model import refs
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Show, body)
    found = await desk.ask(desk.questions.show, refs.parse(request.ref, "ref"))
    desk.with_progress([found])
    reply(found)
