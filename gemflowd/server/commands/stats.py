"""`stats`: what `monitor` shows."""

from __future__ import annotations

from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    messages.read(messages.Body, body)
    reply(await snapshot(desk))


async def snapshot(desk: Desk) -> Body:
    """The body of `stats`; also what is published once a second while someone listens."""
    tasks = (await desk.ask(desk.questions.totals))["tasks"]
    cache = await desk.ask(desk.questions.cache_totals)
    rates = desk.stats()
    now = desk.now()
    return {
        "at": now,
        "uptime": now - desk.identity()["started"],
        "active": tasks["running"],
        "queued": tasks["ready"],
        "waiting": tasks["blocked"] + tasks["scheduled"] + tasks["held"],
        "completed": tasks["succeeded"],
        "failed": tasks["failed"] + tasks["quarantined"],
        "cancelled": tasks["cancelled"],
        "skipped": tasks["skipped"],
        **rates,
        "cache": {name: cache[name] for name in ("hits", "misses", "hit_rate", "saved")},
        "monitoring": desk.configuration.monitoring(),
        "workers": desk.workers(),
    }
