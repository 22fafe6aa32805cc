"""A client made of nothing but libzmq and MessagePack, as docs/protocol.md describes it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from typing import Any, Self

import msgpack
import zmq

#: Seconds after which a reply that did not come is a failed test. Nothing waits for it on the way.
PATIENCE = 30.0


class Refusal(Exception):
    """The daemon refused a request."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error))
        self.code: str = error["code"]
        self.message: str = error["message"]
        self.path: str | None = error.get("path")


class NoReply(Exception):
    """Nothing came in time."""


class Raw:
    """One socket in a context of its own. Replies may come in any order; those that nobody asked for yet are kept."""

    def __init__(self, endpoint: str, kind: int = zmq.DEALER, *, delimiter: bool = False, **options: int) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            self.socket.setsockopt(getattr(zmq, name), value)
        self.socket.connect(endpoint)
        self._front = [b""] if delimiter and kind == zmq.DEALER else []
        self._numbers = itertools.count(1)
        self._kept: dict[Any, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()
        self.context.term()

    # Frames

    def send_frames(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)

    def receive_frames(self, patience: float = PATIENCE) -> list[bytes]:
        if not self.socket.poll(int(patience * 1000)):
            raise NoReply(f"no message within {patience:g} s")
        return self.socket.recv_multipart()

    def receive(self, patience: float = PATIENCE) -> dict[str, Any]:
        """The next reply, whosever it is. Its form is that of the requests of this client."""
        *front, frame = self.receive_frames(patience)
        assert front == self._front
        reply = msgpack.unpackb(frame, strict_map_key=False)
        assert reply["v"] == 1
        return reply

    # Requests

    def send(self, op: str, /, **body: Any) -> int:
        """Send a request and return its id."""
        number = next(self._numbers)
        self.send_frames(*self._front, msgpack.packb({"v": 1, "id": number, "op": op, "body": body}))
        return number

    def reply_to(self, number: int, patience: float = PATIENCE) -> dict[str, Any]:
        """The body of the reply to that request.

        Raises:
            Refusal: it was refused.
        """
        while number not in self._kept:
            reply = self.receive(patience)
            self._kept[reply["id"]] = reply
        reply = self._kept.pop(number)
        if not reply["ok"]:
            raise Refusal(reply["error"])
        return reply["body"]

    def __call__(self, op: str, /, patience: float = PATIENCE, **body: Any) -> dict[str, Any]:
        return self.reply_to(self.send(op, **body), patience)

    # What nearly every test does

    def submit(self, *tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return self("submit", **{"submission": str(uuid.uuid4()), "tasks": list(tasks), **fields})

    def run(self, *tasks: dict[str, Any], patience: float = PATIENCE, **fields: Any) -> list[dict[str, Any]]:
        """Submit a flow, wait for its end and return its results, in order."""
        flow = f"f{self.submit(*tasks, **fields)['flow']}"
        self.wait(flow, patience=patience)
        return self.results(flow)

    def wait(self, *refs: Any, patience: float = PATIENCE, **fields: Any) -> dict[str, Any]:
        """Wait until they have ended, by long polls."""
        answer = self("wait", refs=list(refs), timeout=min(patience, 30.0), **fields, patience=patience + PATIENCE)
        assert answer["done"], f"not ended after {patience:g} s: {answer}, {self('status', refs=list(refs))}"
        return answer

    def results(self, *refs: Any) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = self("results", refs=list(refs), after=after)
            lines += page["results"]
            after = page["next"]
        return lines

    def show(self, ref: Any) -> dict[str, Any]:
        return self("show", ref=ref)

    def log_line(self, ref: Any, after: int = 0, patience: float = PATIENCE) -> dict[str, Any]:
        """The next line of a task's log, waited for."""
        lines = self("logs", ref=ref, after=after, wait=min(patience, 30.0), patience=patience + PATIENCE)["lines"]
        assert lines, f"task {ref} said nothing: {self.show(ref)}"
        return lines[0]


class Subscriber:
    """A SUB socket. `next` returns events one by one."""

    def __init__(self, endpoint: str, *topics: str) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, 100_000)
        for topic in topics:
            self.socket.subscribe(topic)
        self.socket.connect(endpoint)
        self._waiting: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()
        self.context.term()

    def message(self, patience: float = PATIENCE) -> tuple[str, dict[str, Any]]:
        if not self.socket.poll(int(patience * 1000)):
            raise NoReply(f"no event within {patience:g} s")
        topic, frame = self.socket.recv_multipart()
        return topic.decode(), msgpack.unpackb(frame)

    def next(self, patience: float = PATIENCE) -> dict[str, Any]:
        while not self._waiting:
            self._waiting = list(self.message(patience)[1]["events"])
        return self._waiting.pop(0)

    def until(self, topic: str, patience: float = PATIENCE, **fields: Any) -> list[dict[str, Any]]:
        """All events up to the one of that topic and with those fields, which is the last."""
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["topic"] != topic or any(seen[-1].get(k) != v for k, v in fields.items()):
            seen.append(self.next(patience))
        return seen


def ids(lines: Sequence[dict[str, Any]]) -> list[Any]:
    return [line["id"] for line in lines]
