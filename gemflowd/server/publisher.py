"""The door for events: an XPUB socket on the loop. Nothing is made for a topic that nobody subscribes to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import zmq

from gemflowd.model.event import LOG_TOPIC, PROGRESS_TOPIC, EventBatch
from gemflowd.protocol.codec import pack
from gemflowd.protocol.versions import PROTOCOL_VERSION


class Publisher:
    """Owns the XPUB socket. A slow subscriber loses messages, never ours: the numbers in each tell it what it missed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: zmq.Context[Any], epoch: str) -> None:
        self._loop = loop
        self._epoch = epoch
        self._prefixes: list[str] = []
        self._ordinals: dict[str, int] = {}  # of topics that are not stored
        self.on_subscription: Callable[[], None] = lambda: None
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.SNDHWM, 1000)
        self._socket.setsockopt(zmq.RCVHWM, 16)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 4096)
        self._socket.setsockopt(zmq.LINGER, 0)

    def open(self, endpoint: str) -> None:
        self._socket.bind(endpoint)
        self._loop.add_reader(self._socket.getsockopt(zmq.FD), self._ready)
        self._ready()

    def close(self) -> None:
        self._loop.remove_reader(self._socket.getsockopt(zmq.FD))
        self._socket.close()

    def _ready(self) -> None:
        """Someone subscribed or left: XPUB passes on the first and the last of each prefix."""
        changed = False
        while self._socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            message = self._socket.recv(zmq.NOBLOCK)
            prefix = message[1:].decode("utf-8", "replace")
            changed = True
            if message[:1] == b"\x01":
                self._prefixes.append(prefix)
            elif message[:1] == b"\x00" and prefix in self._prefixes:
                self._prefixes.remove(prefix)
        if changed:
            self.on_subscription()

    def wanted(self, topic: str) -> bool:
        return any(topic.startswith(prefix) for prefix in self._prefixes)

    @property
    def anyone(self) -> bool:
        return bool(self._prefixes)

    def publish(self, batch: EventBatch) -> None:
        """The stored events of a turn, a message per topic that someone wants."""
        by_topic: dict[str, list[int]] = {}
        for index, event in enumerate(batch.events):
            by_topic.setdefault(event.topic, []).append(index)
        for topic, indices in by_topic.items():
            if self.wanted(topic):
                events = [batch.on_wire(index) for index in indices]
                ordinal = batch.ordinals.get(topic, 0)
                self._send(topic, events[0]["seq"], events[-1]["seq"], ordinal, events)

    def publish_unstored(self, topic: str, fields: dict[str, Any]) -> None:
        """An event without a number: statistics, log lines, progress."""
        if self.wanted(topic):
            ordinal = self._ordinals.get(topic, 0)
            if not topic.startswith((LOG_TOPIC, PROGRESS_TOPIC)):  # those would be remembered for ever
                self._ordinals[topic] = ordinal + 1
            self._send(topic, None, None, ordinal, [{"seq": None, "topic": topic, **fields}])

    def _send(
        self, topic: str, first: int | None, last: int | None, ordinal: int, events: list[dict[str, Any]]
    ) -> None:
        message = {
            "v": PROTOCOL_VERSION,
            "epoch": self._epoch,
            "first": first,
            "last": last,
            "topic_first": ordinal,
            "events": events,
        }
        self._socket.send_multipart([topic.encode(), pack(message)], zmq.NOBLOCK)
        if self._socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            self._loop.call_soon(self._ready)
