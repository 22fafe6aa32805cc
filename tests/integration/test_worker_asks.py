"""A real worker whose attempts ask, with this test as the daemon: who waits for an answer that does not come can be stopped."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from helpers.daemon import HELPERS, environment

from gemflowd.model.attempt import Kind, Outcome
from gemflowd.worker import wire

PATIENCE = 30.0


class DaemonSide:
    """What the pool does, by hand."""

    def __init__(self, kind: Kind) -> None:
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(PATIENCE)
        self.tickets = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
        self.lease = os.open(os.devnull, os.O_RDONLY)
        argv = json.dumps({"handlers": ["asking_tasks"], "handler_path": [str(HELPERS)], "lease": self.lease})
        options = {
            "parent": os.getpid(),
            "name": "w1",
            "kind": int(kind),
            "channel": theirs.fileno(),
            "tickets": self.tickets,
            "argv": argv,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gemflowd.executor.local.exec_worker", json.dumps(options)],
            pass_fds=(theirs.fileno(), self.tickets, self.lease),
            env=environment(),
        )
        theirs.close()
        self._unpacker = msgpack.Unpacker(strict_map_key=False)
        self.send(wire.CONFIG, {}, 1.0, 2**20)
        assert self.next() == [wire.UP]

    def send(self, *message: Any) -> None:
        self.channel.sendall(msgpack.packb(message))

    def start(self, task: int, kind: str, data: dict[str, Any]) -> None:
        os.eventfd_write(self.tickets, 1)
        body = msgpack.packb({"data": data})
        self.send(wire.START, [[task, task + 100, 1, 1, None, kind, body, None, 60.0]])

    def next(self) -> list[Any]:
        """The next message that is no log line."""
        while True:
            for message in self._unpacker:
                if message[0] != wire.LOG:
                    return message
            data = self.channel.recv(65_536)
            assert data, f"the worker ended: {self.process.wait()}"
            self._unpacker.feed(data)

    def request(self) -> tuple[int, str, dict[str, Any]]:
        word, number, _, _, op, body = self.next()
        assert word == wire.REQUEST
        return number, op, msgpack.unpackb(body)

    def answer(self, number: int, body: dict[str, Any], granted: bool = True) -> None:
        self.send(wire.REPLY, number, granted, msgpack.packb(body))

    def ended(self) -> tuple[int, Outcome, Any]:
        message = self.next()
        assert message[0] == wire.ENDED, message
        return message[1], Outcome(message[3]), msgpack.unpackb(message[4])

    def close(self) -> None:
        self.channel.close()
        assert self.process.wait(PATIENCE) == 0, "it ends with the daemon"
        os.close(self.tickets)
        os.close(self.lease)


@pytest.fixture(
    params=[(Kind.BLOCKING, "remember"), (Kind.BLOCKING, "aremember"), (Kind.COROUTINE, "aremember")], ids=str
)
def worker(request: pytest.FixtureRequest) -> Iterator[tuple[DaemonSide, str]]:
    """A worker of each kind, and one where a coroutine has a blocking worker for itself."""
    side = DaemonSide(request.param[0])
    yield side, request.param[1]
    side.close()


GET = {"calls": [["get", {"key": "a"}]]}


def test_it_asks_and_goes_on_with_the_answer(worker: tuple[DaemonSide, str]) -> None:
    side, kind = worker
    side.start(1, kind, {"calls": [["set", {"key": "a", "value": 1}], ["get", {"key": "a"}]]})
    number, op, body = side.request()
    assert (op, body["key"], body["value"]) == ("memory_set", "a", 1)
    side.answer(number, {"version": 4})
    number, op, body = side.request()
    side.answer(number, {"code": "overloaded", "message": "later"}, granted=False)
    task, outcome, result = side.ended()
    assert (task, outcome) == (1, Outcome.DONE)
    assert result == [4, {"refused": "overloaded", "path": None}]


def test_who_waits_for_an_answer_can_be_stopped(worker: tuple[DaemonSide, str]) -> None:
    side, kind = worker
    for task in (1, 2):
        side.start(task, kind, GET)
        number, _, _ = side.request()
        side.send(wire.CANCEL, task, task + 100)
        assert side.ended()[:2] == (task, Outcome.CANCELLED)
        side.answer(number, {"value": "late"})  # to nobody
    side.start(3, kind, GET)
    number, _, _ = side.request()
    side.answer(number, {"value": "in time"})
    task, outcome, result = side.ended()
    assert (task, outcome, result) == (3, Outcome.DONE, ["in time"])


def test_it_ends_with_the_daemon_while_it_waits(worker: tuple[DaemonSide, str]) -> None:
    side, kind = worker
    side.start(1, kind, GET)
    side.request()
