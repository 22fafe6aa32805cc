"""`hello` and `ping`: who answers here."""

from __future__ import annotations

from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.protocol.codec import MAX_DEPTH, MAX_FRAME_BYTES
from gemflowd.protocol.versions import PROTOCOL_VERSION
from gemflowd.server.desk import Body, Desk


def handle(desk: Desk, body: Body, reply: Reply) -> None:
    messages.read(messages.Hello, body)
    limits = {
        "frame_bytes": MAX_FRAME_BYTES,
        "depth": MAX_DEPTH,
        "chunk_tasks": messages.MAX_CHUNK_TASKS,
        "credit": messages.CREDIT,
    }
    protocol = {"min": PROTOCOL_VERSION, "max": PROTOCOL_VERSION}
    reply({**desk.identity(), "protocol": protocol, "limits": limits})


def ping(desk: Desk, body: Body, reply: Reply) -> None:
    messages.read(messages.Body, body)
    reply({"now": desk.now()})
