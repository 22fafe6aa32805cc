"""`results`: what has ended, in order of submission, a page at a time."""

from __future__ import annotations

from gemflowd.model import refs
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk

MOST = 5000


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Results, body)
    if not 1 <= request.limit <= MOST:
        raise Invalid("invalid_value", f"must be from 1 to {MOST}", "limit")
    reply(await desk.ask(desk.questions.results, refs.parse_all(request.refs), request.after, request.limit))
