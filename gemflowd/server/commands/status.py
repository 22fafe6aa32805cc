"""`status`: the daemon's state in one look, or that of tasks and flows."""

from __future__ import annotations

from gemflowd.model import refs
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Status, body)
    if request.refs is not None:
        found = await desk.ask(desk.questions.items, refs.parse_all(request.refs))
        desk.with_progress(found["items"])
        reply(found)
        return
    totals = await desk.ask(desk.questions.totals)
    identity = desk.identity()
    size = desk.configuration.size()
    workers = desk.workers()
    reply(
        {
            **identity,
            "uptime": desk.now() - identity["started"],
            "profile": desk.configuration.profile()["profile"],
            "enabled": desk.configuration.enabled(),
            **totals,
            "workers": {kind: sum(worker["kind"] == kind for worker in workers) for kind in ("blocking", "coroutine")},
            "slots": size["slots"],
            "paused_limits": desk.paused_limits(),
        }
    )
