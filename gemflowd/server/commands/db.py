"""`db_snapshot` and `db_check`: a copy of the database while the daemon works, and whether it is sound."""

from __future__ import annotations

import asyncio

from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


async def snapshot(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Snapshot, body)
    done: Body = await asyncio.wrap_future(desk.copies.snapshot(request.path), loop=desk.loop)
    reply(done)


async def check(desk: Desk, body: Body, reply: Reply) -> None:
    messages.read(messages.Body, body)
    done: Body = await asyncio.wrap_future(desk.copies.check(), loop=desk.loop)
    reply(done)
