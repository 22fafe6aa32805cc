"""A client of libzmq and MessagePack alone, so that what is measured is the daemon: frames may be packed beforehand."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgpack
import zmq

#: Tasks in one request, at most (`limits.chunk_tasks`), and about how many bytes.
CHUNK_TASKS = 2_000
CHUNK_BYTES = 1024 * 1024
#: Requests that are on their way at a time while chunks are sent.
PIPELINE = 4

Body = dict[str, Any]


class Refusal(Exception):
    """The daemon refused a request."""


class NoReply(Exception):
    """Nothing came in time."""


class Wire:
    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 5)
        self._socket.connect(endpoint)
        self._numbers = itertools.count(1)

    def close(self) -> None:
        self._socket.close()
        self._context.term()

    def __call__(self, op: str, /, patience: float = 600.0, **body: Any) -> Body:
        number = next(self._numbers)
        self.send(request(op, body, number))
        while True:
            reply = self.receive(patience)
            if reply["id"] == number:
                return self.body(reply)

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self, patience: float = 600.0) -> Body:
        if not self._socket.poll(int(patience * 1000)):
            raise NoReply(f"no reply within {patience:g} s")
        return self.unpack(self._socket.recv())

    @staticmethod
    def unpack(frame: bytes) -> Body:
        reply: Body = msgpack.unpackb(frame, strict_map_key=False)
        return reply

    @staticmethod
    def body(reply: Body) -> Body:
        if not reply["ok"]:
            raise Refusal(str(reply["error"]))
        found: Body = reply["body"]
        return found

    def pour(self, frames: Sequence[bytes], pipeline: int = PIPELINE) -> list[Body]:
        """Send requests with some in flight, in order, and return their replies in the order in which they came."""
        replies: list[Body] = []
        waiting = iter(frames)
        for frame in itertools.islice(waiting, pipeline):
            self.send(frame)
        for _ in frames:
            replies.append(self.body(self.receive()))
            following = next(waiting, None)
            if following is not None:
                self.send(following)
        return replies

    def submit(self, tasks: Sequence[Mapping[str, Any]], *, pipeline: int = 1, **about: Any) -> int:
        """A whole flow, in chunks, one after the other as `gemflowctl` does. Returns its number."""
        return int(self.pour(list(flow_frames(tasks, **about)), pipeline)[-1]["flow"])

    def wait(self, *refs: str) -> None:
        """Wait until they have ended."""
        while not self("wait", refs=list(refs), timeout=10)["done"]:
            pass

    def counts(self, queue: str) -> dict[str, int]:
        """Tasks of a queue by state."""
        for found in self("queues")["queues"]:
            if found["queue"] == queue:
                return dict(found["tasks"])
        return {}

    def until(self, queue: str, state: str, count: int, every: float = 0.01) -> tuple[float, int]:
        """Wait until a queue has so many tasks of a state. Returns when (perf_counter) and how many it has."""
        while (have := self.counts(queue).get(state, 0)) < count:
            time.sleep(every)
        return time.perf_counter(), have


def request(op: str, body: Mapping[str, Any], number: int = 0) -> bytes:
    frame: bytes = msgpack.packb({"v": 1, "id": number, "op": op, "body": body})
    return frame


def flow_frames(tasks: Sequence[Mapping[str, Any]], **about: Any) -> Iterator[bytes]:
    """The requests of one flow: chunks of about `CHUNK_BYTES`, `CHUNK_TASKS` at most."""
    name, at = str(uuid.uuid4()), 0
    while True:
        size, end = 0, at
        while end < len(tasks) and end - at < CHUNK_TASKS and size < CHUNK_BYTES:
            size += len(msgpack.packb(tasks[end]))
            end += 1
        complete = end == len(tasks)
        head = about if at == 0 else {}
        body = {"submission": name, "tasks": tasks[at:end], "offset": at, "complete": complete, **head}
        yield request("submit", body, at)
        if complete:
            return
        at = end


def same_tasks(task: Mapping[str, Any], count: int) -> list[bytes]:
    """Flows of equal tasks, each in one request: `count` tasks in all, packed without packing each of them."""
    packed: bytes = msgpack.packb(task)
    most = max(1, min(CHUNK_TASKS, CHUNK_BYTES // len(packed)))
    packer = msgpack.Packer(autoreset=True)
    frames = []
    while count > 0:
        size = min(most, count)
        head = msgpack.packb({"v": 1, "id": 0, "op": "submit"})
        rest = msgpack.packb("body") + b"\x82" + msgpack.packb("submission") + msgpack.packb(str(uuid.uuid4()))
        tasks = msgpack.packb("tasks") + packer.pack_array_header(size) + packed * size
        frames.append(b"\x84" + head[1:] + rest + tasks)
        count -= size
    return frames
