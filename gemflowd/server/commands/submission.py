"""`submission` and `discard`: how far a submission is, and away with it."""

from __future__ import annotations

import uuid

from gemflowd.model import facts
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    reply(await desk.ask(desk.questions.submission, _uuid(body)))


def discard(desk: Desk, body: Body, reply: Reply) -> None:
    desk.post(facts.Discard(reply, _uuid(body)))


def _uuid(body: Body) -> str:
    try:
        return str(uuid.UUID(messages.read(messages.Submission, body).submission))
    except ValueError:
        raise Invalid("invalid_value", "must be a UUID", "submission") from None
