"""The door for running attempts: what a handler asks of the daemon through its worker's channel.

The same commands as for clients, of a short list, with the attempt as who speaks. Bodies are checked as a client's frame is: a
handler is somebody's code, too. Does not cover how the request gets here, how many may be unanswered, and whether the
attempt is the live one of its worker (`executor.local.pool`); whether it is that of its task is the engine's to say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from gemflowd.model.errors import Invalid, Refused
from gemflowd.model.facts import Speaker
from gemflowd.protocol import codec
from gemflowd.server.calls import Calls
from gemflowd.server.commands.table import ATTEMPT_COMMANDS
from gemflowd.server.desk import Desk

log = logging.getLogger("gemflow.server")

#: Takes the answer: whether it was granted, and the reply's body or the error, MessagePack.
Take = Callable[[bool, bytes], None]


class AttemptDoor:
    """Requests of running attempts in, answers out. Used on the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, desk: Desk) -> None:
        self._desk = desk
        self._calls = Calls(loop)

    def ask(self, task: int, token: int, op: str, frame: bytes, take: Take) -> None:
        """Carry out a request and answer it once, now or later."""
        answer = _Answer(take)
        speaker = Speaker(task, token)
        try:
            command = ATTEMPT_COMMANDS.get(op)
            if command is None:
                allowed = ", ".join(ATTEMPT_COMMANDS)
                raise Invalid("unknown_op", f"a running task can't ask for {op[:40]!r}, only for: {allowed}", "op")
            body = codec.decode(frame)
            codec.check_fields(body)
        except Refused as refused:
            answer(refused)
            return
        self._calls.call(op, lambda: command(self._desk, body, answer, speaker), answer)

    def close(self) -> None:
        self._calls.close()


class _Answer:
    """Answers one request, once."""

    __slots__ = ("_take",)

    def __init__(self, take: Take) -> None:
        self._take: Take | None = take

    def __call__(self, result: dict[str, Any] | Refused) -> None:
        take, self._take = self._take, None
        if take is None:
            return
        if isinstance(result, Refused):
            take(False, codec.pack(result.to_wire()))
            return
        try:
            frame = codec.pack(result)
        except (TypeError, ValueError, OverflowError):
            log.exception("a reply could not be encoded")
            take(False, codec.pack(Refused("internal", "the reply could not be encoded").to_wire()))
        else:
            take(True, frame)
