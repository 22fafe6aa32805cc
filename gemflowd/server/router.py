"""The door for requests: a ROUTER socket on the loop. Frames in, replies out, per client a credit and a bounded outbox.

Raw pyzmq on the loop, not zmq.asyncio, which costs a future a message. The socket's descriptor is edge-triggered: after
every send or receive the socket's events are looked at again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import zmq

from gemflowd.model.errors import Invalid, Refused
from gemflowd.protocol import codec
from gemflowd.protocol.messages import CREDIT
from gemflowd.protocol.versions import PROTOCOL_VERSION
from gemflowd.server.calls import Calls
from gemflowd.server.commands.table import COMMANDS
from gemflowd.server.desk import Desk

log = logging.getLogger("gemflow.server")

#: Messages that are read before others get their turn on the loop.
_BATCH: Final = 64
#: Seconds after which what waits is tried again: doubled while nothing gets through, up to the last.
_RETRY: Final = (0.005, 1.0)
#: Replies that wait for a client that does not read.
MAX_OUTBOX: Final = 256
_ENVELOPE: Final = frozenset({"v", "id", "op", "body"})


@dataclass(slots=True)
class Client:
    """A peer with something unanswered or unread. Others are not remembered."""

    identity: bytes
    unanswered: int = 0
    outbox: deque[list[bytes]] = field(default_factory=deque)


class Router:
    """Owns the ROUTER socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: zmq.Context[Any], desk: Desk) -> None:
        self._loop = loop
        self._desk = desk
        self._clients: dict[bytes, Client] = {}
        self._calls = Calls(loop)
        self._scheduled = False
        self._retry: asyncio.TimerHandle | None = None  # set as long as an outbox is not empty
        self._pause = 0.0
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # without it a reply to nobody is dropped in silence
        self._socket.setsockopt(zmq.RCVHWM, 16)
        self._socket.setsockopt(zmq.SNDHWM, 64)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 2 * codec.MAX_FRAME_BYTES)  # up to here a refusal can say why
        self._socket.setsockopt(zmq.LINGER, 500)

    def open(self, endpoint: str) -> None:
        self._socket.bind(endpoint)
        self._loop.add_reader(self._socket.getsockopt(zmq.FD), self._ready)
        self._again()

    async def finish(self, timeout: float) -> None:
        """Give those that are being answered a moment."""
        await self._calls.finish(timeout)

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._calls.close()
        self._loop.remove_reader(self._socket.getsockopt(zmq.FD))
        self._socket.close()

    def _ready(self) -> None:
        """The descriptor fired: something may be read, or written again."""
        self._scheduled = False
        self._flush_all()
        for _ in range(_BATCH):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._take(parts)
        self._again()

    def _again(self) -> None:
        """Edge-triggered: what is there already will not fire again."""
        if not self._scheduled and self._socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            self._scheduled = True
            self._loop.call_soon(self._ready)

    def _take(self, parts: list[bytes]) -> None:
        identity, *rest = parts
        delimiter = len(rest) > 1 and rest[0] == b""
        answer = _Answer(self, identity, delimiter)
        if len(rest) != 1 + delimiter:
            answer(Invalid("bad_frame", f"a request is one frame, not {len(rest) - delimiter}"))
            return
        client = self._clients.setdefault(identity, Client(identity))
        if client.unanswered >= CREDIT:
            answer.read_id(rest[-1])
            answer(Refused("overloaded", f"{CREDIT} requests of this client are unanswered; wait for replies"))
            return
        try:
            op, body = answer.read(rest[-1])
        except Refused as refused:
            answer(refused)
            self.settle(client)
            return
        client.unanswered += 1
        answer.client = client
        self._calls.call(op, lambda: COMMANDS[op](self._desk, body, answer), answer)

    def send(self, identity: bytes, parts: list[bytes]) -> None:
        client = self._clients.get(identity)
        if client is None or not client.outbox:
            try:
                self._socket.send_multipart(parts, zmq.NOBLOCK)
                self._again()
                return
            except zmq.Again:
                client = client or self._clients.setdefault(identity, Client(identity))
            except zmq.ZMQError as error:
                self._gone(identity, error)
                self._again()  # to nobody, but it has taken in what the descriptor would have told
                return
        if len(client.outbox) >= MAX_OUTBOX:
            log.warning("a client does not read its replies; %d of them are dropped", len(client.outbox))
            del self._clients[identity]
            return
        client.outbox.append(parts)
        self._again()  # sending has taken in what the descriptor would have told
        if self._retry is None:
            self._retry_in(_RETRY[0])

    def _flush_all(self) -> None:
        """Send what waits, as far as its readers let us.

        libzmq never says that there is room for one peer again, it only takes the news in, with whatever is called next. So a
        timer stands behind the descriptor, as long as something waits.
        """
        if self._retry is None:
            return
        waiting = [client for client in self._clients.values() if client.outbox]
        before = sum(len(client.outbox) for client in waiting)
        for client in waiting:
            self._flush(client)
        self._retry.cancel()
        self._retry = None
        left = sum(len(client.outbox) for client in waiting)
        if left:
            self._retry_in(_RETRY[0] if left < before else min(_RETRY[1], self._pause * 2))
        self._again()

    def _retry_in(self, seconds: float) -> None:
        self._pause = seconds
        self._retry = self._loop.call_later(seconds, self._flush_all)

    def _flush(self, client: Client) -> None:
        while client.outbox:
            try:
                self._socket.send_multipart(client.outbox[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            except zmq.ZMQError as error:
                self._gone(client.identity, error)
                return
            client.outbox.popleft()
        self.settle(client)

    def _gone(self, identity: bytes, error: zmq.ZMQError) -> None:
        if error.errno != zmq.EHOSTUNREACH:
            log.warning("a reply could not be sent: %s", error)
        self._clients.pop(identity, None)

    def settle(self, client: Client) -> None:
        """Forget a client that has nothing unanswered and nothing unread."""
        if not client.unanswered and not client.outbox and self._clients.get(client.identity) is client:
            del self._clients[client.identity]


class _Answer:
    """Answers one request, once; whoever decides it calls this on the loop's thread."""

    __slots__ = ("_began", "_delimiter", "_done", "_id", "_identity", "_op", "_router", "client")

    def __init__(self, router: Router, identity: bytes, delimiter: bool) -> None:
        self._router = router
        self._identity = identity
        self._delimiter = delimiter
        self._id: object = None
        self._done = False
        self._op = "-"
        self._began = time.monotonic()
        self.client: Client | None = None

    def read_id(self, frame: bytes) -> None:
        try:
            self.read(frame)
        except Refused:
            pass

    def read(self, frame: bytes) -> tuple[str, dict[str, Any]]:
        """Take the envelope apart.

        Raises:
            Invalid: with the request's id remembered as soon as it is known.
        """
        envelope = codec.decode(frame)
        if not all(isinstance(name, str) for name in envelope):
            raise Invalid("bad_frame", "map keys must be strings")
        request_id = envelope.get("id")
        if "id" in envelope and (isinstance(request_id, bool) or not isinstance(request_id, int | str | None)):
            raise Invalid("wrong_type", "must be an integer or a string", "id")
        codec.check_value(request_id, "id")
        self._id = request_id
        if "v" not in envelope:
            raise Invalid("missing_field", "the field `v` is required", "v")
        if type(envelope["v"]) is not int or envelope["v"] != PROTOCOL_VERSION:
            raise Invalid(
                "protocol_version", f"this daemon speaks version {PROTOCOL_VERSION}, not {envelope['v']!r:.40}", "v"
            )
        for name in envelope.keys() - _ENVELOPE:
            raise Invalid("unknown_field", f"there is no field `{name:.40}` in the envelope", name[:40])
        if request_id is None:
            raise Invalid("missing_field", "the field `id` is required", "id")
        op = envelope.get("op")
        if not isinstance(op, str):
            raise Invalid("missing_field" if op is None else "wrong_type", "the field `op` is required, a string", "op")
        if op not in COMMANDS:
            raise Invalid("unknown_op", f"there is no operation {op[:40]!r}", "op")
        body = envelope.get("body", {})
        if not isinstance(body, dict):
            raise Invalid("wrong_type", "must be a map", "body")
        codec.check_fields(body)
        self._op = op
        return op, body

    def __call__(self, result: dict[str, Any] | Refused) -> None:
        if self._done:
            return
        self._done = True
        if isinstance(result, Refused):
            frame = codec.refusal(self._id, result.to_wire())
        else:
            try:
                frame = codec.reply(self._id, result)
            except (TypeError, ValueError, OverflowError):
                log.exception("a reply could not be encoded")
                frame = codec.refusal(self._id, Refused("internal", "the reply could not be encoded").to_wire())
        if log.isEnabledFor(logging.DEBUG):
            outcome = result.code if isinstance(result, Refused) else "ok"
            milliseconds = (time.monotonic() - self._began) * 1e3
            peer = self._identity.hex()
            log.debug("%s of %s: %s, %d bytes, %.1f ms", self._op, peer, outcome, len(frame), milliseconds)
        parts = [self._identity, b"", frame] if self._delimiter else [self._identity, frame]
        client = self.client
        if client is not None:
            client.unanswered -= 1
        self._router.send(self._identity, parts)
        if client is not None:
            self._router.settle(client)
