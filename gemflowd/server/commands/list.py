"""`list`: tasks by number, filtered, a page at a time."""

from __future__ import annotations

from typing import Any

from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply
from gemflowd.model.states import STATES_BY_WORD
from gemflowd.protocol import messages
from gemflowd.protocol.codec import check_value
from gemflowd.server.desk import Body, Desk

MOST = 1000
#: Of `metadata`.
MOST_KEYS = 10


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.List, body)
    if not 1 <= request.limit <= MOST:
        raise Invalid("invalid_value", f"must be from 1 to {MOST}", "limit")
    if len(request.metadata) > MOST_KEYS:
        raise Invalid("invalid_value", f"at most {MOST_KEYS} keys", "metadata")
    check_value(request.metadata, "metadata")
    where, values = _where(request)
    found = await desk.ask(desk.questions.page, where, values, request.after, request.limit, request.metadata)
    desk.with_progress(found["tasks"])
    reply(found)


def _where(request: messages.List) -> tuple[str, tuple[Any, ...]]:
    parts: list[str] = []
    values: list[Any] = []

    def add(condition: str, value: Any) -> None:
        values.append(value)
        parts.append(condition.replace("?", f"?{len(values) + 2}"))

    if request.state is not None:
        state = STATES_BY_WORD.get(request.state)
        if state is None:
            raise Invalid("invalid_value", f"must be one of {', '.join(STATES_BY_WORD)}", "state")
        add("AND state = ?", int(state))
    if request.type is not None:
        add("AND type = ?", request.type)
    if request.queue is not None:
        add("AND lane IN (SELECT number FROM lane WHERE queue = ?)", request.queue)
    if request.flow is not None:
        add("AND flow = ?", request.flow)
    if request.since is not None:
        add("AND created >= ?", request.since)
    return " ".join(parts), tuple(values)
