"""What running attempts ask of the daemon: numbered requests out, answers back to whoever waits for them.

Answers are read where the worker reads its channel: on a second thread in a blocking worker, on the loop in a coroutine
worker. A blocking handler waits on its own thread and can be interrupted there; a coroutine waits on its loop, wherever that
runs. An answer that nobody waits for any more is dropped.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgpack

from gemflowd.handlers.errors import RequestRefused
from gemflowd.worker import wire

Answer = tuple[bool, bytes]  # whether it was granted; the body or the error, MessagePack


class Requests:
    """All of one worker.

    Args:
        send: puts a message on the channel; from any thread that handlers run on.
    """

    def __init__(self, send: Callable[[list[Any]], None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Callable[[Answer], object]] = {}

    def ask(self, task: int, token: int, op: str, frame: bytes, take: Callable[[Answer], object]) -> None:
        """Send a request. `take` is called with its answer, on the thread that reads the channel."""
        number = next(self._numbers)
        self._waiting[number] = take
        self._send([wire.REQUEST, number, task, token, op, frame])

    def answered(self, number: int, granted: bool, answer: bytes) -> None:
        take = self._waiting.pop(number, None)
        if take is not None:
            take((granted, answer))


class Asker:
    """Requests of one attempt whose handler blocks."""

    def __init__(self, requests: Requests, task: int, token: int) -> None:
        self._requests = requests
        self._task = task
        self._token = token

    def __call__(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask and wait. A cancel or timeout of the attempt is raised here, too.

        Raises:
            RequestRefused: the daemon refused it.
        """
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._requests.ask(self._task, self._token, op, _packed(body), answers.put)
        return _body_of(answers.get())


class AsyncAsker:
    """Requests of one attempt whose handler is a coroutine. What is more than may be unanswered waits its turn here."""

    def __init__(self, requests: Requests, task: int, token: int) -> None:
        self._requests = requests
        self._task = task
        self._token = token
        self._credit = asyncio.Semaphore(wire.MOST_REQUESTS)

    async def __call__(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        """As `Asker`."""
        frame = _packed(body)
        await self._credit.acquire()
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Answer] = loop.create_future()

        def settle(answer: Answer) -> None:
            self._credit.release()  # not before: the daemon counts it until then, whether somebody still waits or not
            if not waiting.done():
                waiting.set_result(answer)

        def take(answer: Answer) -> None:
            with suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(settle, answer)

        self._requests.ask(self._task, self._token, op, frame, take)
        return _body_of(await waiting)


def _packed(body: dict[str, Any]) -> bytes:
    try:
        frame: bytes = msgpack.packb(body)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestRefused("wrong_type", f"this can't be sent: {error}") from error
    if len(frame) > wire.MAX_REQUEST:
        message = f"the request has {len(frame)} bytes; at most {wire.MAX_REQUEST} are accepted"
        raise RequestRefused("frame_too_large", message)
    return frame


def _body_of(answer: Answer) -> dict[str, Any]:
    granted, packed = answer
    body: dict[str, Any] = msgpack.unpackb(packed, strict_map_key=False)
    if granted:
        return body
    raise RequestRefused(body["code"], body["message"], body.get("path"))
