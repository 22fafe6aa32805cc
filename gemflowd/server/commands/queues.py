"""`queues`, `pause` and `resume`: named queues, how many of each run at a time, and whether any."""

from __future__ import annotations

import msgspec

from gemflowd.model import facts
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk
from gemflowd.server.new_task import check_queue


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Queues, body)
    if request.queue is None:
        if request.limit is not msgspec.UNSET:
            raise Invalid("missing_field", "say which queue is limited", "queue")
        reply(await desk.ask(desk.questions.queues))
        return
    check_queue(request.queue, "queue")
    if request.limit is msgspec.UNSET:
        raise Invalid("missing_field", "give a limit, or null for none", "limit")
    if request.limit is not None and not 0 <= request.limit <= 1_000_000:
        raise Invalid("invalid_value", "must be from 0 to 1000000, or null", "limit")
    desk.post(facts.SetQueue(reply, request.queue, {"most": request.limit}))


def pause(desk: Desk, body: Body, reply: Reply) -> None:
    _set(desk, body, reply, paused=True)


def resume(desk: Desk, body: Body, reply: Reply) -> None:
    _set(desk, body, reply, paused=False)


def _set(desk: Desk, body: Body, reply: Reply, *, paused: bool) -> None:
    queue = messages.read(messages.Queue, body).queue
    check_queue(queue, "queue")
    desk.post(facts.SetQueue(reply, queue, {"paused": paused}))
