"""The door for requests, with real sockets and nothing behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import zmq
from helpers.raw import Raw

from gemflowd.server.commands.table import COMMANDS
from gemflowd.server.desk import Desk
from gemflowd.server.router import Router

#: Each round hits the moment nearly every time; one that is missed proves nothing.
ROUNDS = 20


async def replies_to_clients_that_are_gone(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: asyncio.Queue[Callable[[Any], None]] = asyncio.Queue()
    monkeypatch.setitem(COMMANDS, "status", lambda desk, body, answer: answers.put_nowait(answer))
    context: zmq.Context[Any] = zmq.Context()
    router = Router(asyncio.get_running_loop(), context, cast(Desk, None))
    router.open(endpoint)
    try:
        for _ in range(ROUNDS):
            gone = Raw(endpoint)
            gone.send("status")
            answer = await answers.get()
            with Raw(endpoint) as client:
                gone.close()
                client.send("status")
                time.sleep(0.02)  # the loop stands still until libzmq's own thread has both in the router's mailbox
                answer({})
                other = await asyncio.wait_for(answers.get(), 5)
                other({})
                assert await asyncio.to_thread(client.receive)
    finally:
        router.close()
        context.destroy()


def test_a_reply_to_a_client_that_is_gone_leaves_nobody_unheard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send takes in what the edge-triggered descriptor would have told, also when it fails."""
    asyncio.run(replies_to_clients_that_are_gone(f"ipc://{tmp_path}/door", monkeypatch))
