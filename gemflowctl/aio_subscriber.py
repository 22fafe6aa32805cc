"""The asyncio SUB socket: messages of the daemon's events endpoint. ZeroMQ reconnects it by itself."""

from __future__ import annotations

from typing import Any, Final

import zmq
import zmq.asyncio

from gemflowctl import frames
from gemflowctl.subscriber import read_message

_RECEIVE_MARK: Final = 10_000


class AsyncSubscriber:
    """Args: the endpoint and topics of `Listen`."""

    def __init__(self, context: zmq.asyncio.Context, endpoint: str, topics: tuple[str, ...]) -> None:
        self._socket = context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, _RECEIVE_MARK)
        for topic in topics:
            self._socket.subscribe(topic)
        self._socket.connect(endpoint)
        self._traced = frames.trace() is not None

    async def receive(self, timeout: float) -> tuple[str, dict[str, Any]] | None:
        """The next message, or None after `timeout` seconds (or when it was not one)."""
        if not await self._socket.poll(int(timeout * 1000)):
            return None
        return read_message(await self._socket.recv_multipart(), traced=self._traced)

    def close(self) -> None:
        self._socket.close(linger=0)
