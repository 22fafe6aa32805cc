"""`handlers`: the task types and personas of this installation."""

from __future__ import annotations

from gemflowd.model.facts import Reply, Speaker
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


def handle(desk: Desk, body: Body, reply: Reply) -> None:
    messages.read(messages.Body, body)
    reply({"handlers": desk.validator.table(), "agents": desk.personas.table(), "mcp": desk.personas.servers()})


def of_attempt(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> None:
    """The same for a running task: who plans has to know what there is."""
    handle(desk, body, reply)
