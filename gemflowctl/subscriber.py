"""The blocking SUB socket: messages of the daemon's events endpoint. ZeroMQ reconnects it by itself."""

from __future__ import annotations

from typing import Any, Final

import zmq

from gemflowctl import frames
from gemflowctl.interrupt import Interrupt
from gemflowd.model.errors import Invalid
from gemflowd.protocol import codec

#: Messages that libzmq keeps for us; beyond, it drops, and the gap is found by the ordinals.
_RECEIVE_MARK: Final = 10_000


def read_message(parts: list[bytes], *, traced: bool = False) -> tuple[str, dict[str, Any]] | None:
    """Topic and message of the two frames, or None when they are not of this protocol."""
    if len(parts) != 2:
        return None
    try:
        message = codec.decode(parts[1])
        topic = parts[0].decode()
    except (Invalid, UnicodeDecodeError):
        return None
    if traced:
        frames.event(topic, message, len(parts[1]))
    return (topic, message) if message.get("v") == 1 and isinstance(message.get("events"), list) else None


class Subscriber:
    """Args: the endpoint and topics of `Listen`; `interrupt` ends a wait with `Interrupted`."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        topics: tuple[str, ...],
        interrupt: Interrupt | None = None,
    ) -> None:
        self._socket = context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, _RECEIVE_MARK)
        self._interrupt = interrupt
        self._traced = frames.trace() is not None
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        if interrupt is not None:
            self._poller.register(interrupt.fileno(), zmq.POLLIN)
        for topic in topics:
            self._socket.subscribe(topic)
        self._socket.connect(endpoint)

    def receive(self, timeout: float) -> tuple[str, dict[str, Any]] | None:
        """The next message, or None after `timeout` seconds (or when it was not one)."""
        self._poller.poll(int(timeout * 1000))
        if self._interrupt is not None:
            self._interrupt.check()
        try:
            return read_message(self._socket.recv_multipart(zmq.NOBLOCK), traced=self._traced)
        except zmq.Again:
            return None

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """For those who poll it beside other things."""
        return self._socket

    def close(self) -> None:
        self._socket.close(linger=0)
