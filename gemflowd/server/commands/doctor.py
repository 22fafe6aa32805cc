"""`doctor`: whether the daemon has what it needs, and is well itself."""

from __future__ import annotations

import asyncio
from typing import Final

from gemflowd.model.facts import Ping, Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk

#: Seconds in which a turn of the queue has to come.
_PATIENCE: Final = 5.0


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    messages.read(messages.Body, body)
    checks = [*await asyncio.to_thread(desk.check), await _queue(desk)]
    reply({"ok": all(check["state"] != "wrong" for check in checks), "checks": checks})


async def _queue(desk: Desk) -> Body:
    """Whether turns come: a stuck disk or database shows here first."""
    begin = desk.loop.time()
    try:
        await asyncio.wait_for(desk.decide(Ping), _PATIENCE)
    except TimeoutError:
        message = f"no turn of the queue within {_PATIENCE:g} s"
        return {"check": "queue", "state": "wrong", "message": message, "remedy": "look at the disk and at the log"}
    message = f"a turn of the queue came after {(desk.loop.time() - begin) * 1e3:.0f} ms"
    return {"check": "queue", "state": "ok", "message": message, "remedy": None}
