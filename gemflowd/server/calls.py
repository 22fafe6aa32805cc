"""Carrying a command out, for whichever door the request came through: what goes wrong in it becomes a refusal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gemflowd.model.errors import Refused
from gemflowd.model.facts import Reply

log = logging.getLogger("gemflow.server")


class Calls:
    """Those that take a while are held on to until they are through."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: set[asyncio.Task[None]] = set()

    def call(self, op: str, command: Callable[[], Awaitable[None] | None], reply: Reply) -> None:
        """Run a command that answers by `reply`, which must bear being called a second time."""
        try:
            later = command()
        except Refused as refused:
            reply(refused)
        except Exception:
            log.exception("%s failed", op)
            reply(Refused("internal", "a defect of the daemon; its log has the traceback"))
        else:
            if later is not None:
                task = self._loop.create_task(self._finish(op, later, reply))
                self._waiting.add(task)
                task.add_done_callback(self._waiting.discard)

    async def _finish(self, op: str, later: Awaitable[None], reply: Reply) -> None:
        try:
            await later
        except Refused as refused:
            reply(refused)
        except Exception:
            log.exception("%s failed", op)
            reply(Refused("internal", "a defect of the daemon; its log has the traceback"))

    async def finish(self, timeout: float) -> None:
        """Give those that are being answered a moment."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=timeout)

    def close(self) -> None:
        for task in self._waiting:
            task.cancel()
