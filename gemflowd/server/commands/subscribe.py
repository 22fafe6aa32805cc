"""`subscribe` and `events`: where the events are, and those that were missed."""

from __future__ import annotations

from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk

MOST = 5000


def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Subscribe, body)
    identity = desk.identity()
    position = desk.position()
    prefixes = tuple(request.topics)
    topics = {topic: n for topic, n in position["topics"].items() if not prefixes or topic.startswith(prefixes)}
    reply({"endpoint": identity["events"], "epoch": identity["epoch"], "next": position["next"], "topics": topics})


async def events(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Events, body)
    if not 1 <= request.limit <= MOST:
        raise Invalid("invalid_value", f"must be from 1 to {MOST}", "limit")
    reply(await desk.ask(desk.questions.events, max(1, request.from_), request.topics, request.limit))
