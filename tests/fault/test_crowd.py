"""A thousand clients that connect, ask and never read; clients that go in the middle of a submission."""

from __future__ import annotations

import resource
import uuid
from typing import Any

import msgpack
import psutil
import pytest
import zmq
from helpers.daemon import Daemon
from helpers.raw import Raw

CLIENTS = 1_000


def frame(number: int, op: str, **body: Any) -> bytes:
    return msgpack.packb({"v": 1, "id": number, "op": op, "body": body})


@pytest.mark.slow
def test_a_thousand_clients_that_never_read(daemon: Daemon) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4 * CLIENTS:
        pytest.skip(f"only {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4 * CLIENTS), hard))
    context: zmq.Context[Any] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 2 * CLIENTS)
    try:
        with Raw(daemon.endpoint) as client:
            done = client.run({"type": "echo"})
            assert done[0]["ok"]
            before = psutil.Process(daemon.pid).memory_info().rss
            ended = daemon.subscriber("task.succeeded")
            crowd = []
            for _ in range(CLIENTS):
                socket = context.socket(zmq.DEALER)
                socket.setsockopt(zmq.LINGER, 0)
                socket.setsockopt(zmq.RCVHWM, 1)
                socket.connect(daemon.endpoint)
                for number in range(20):
                    socket.send(frame(number, "status" if number % 2 else "stats"))
                socket.send(frame(99, "submit", submission=str(uuid.uuid4()), tasks=[{"type": "echo"}]))
                crowd.append(socket)
            for _ in range(CLIENTS):  # also what nobody reads the answer to is done
                ended.next()
            (line,) = client.run({"type": "echo", "data": {"still": "there"}})
            assert line["ok"]
            grown = psutil.Process(daemon.pid).memory_info().rss - before
            assert grown < 200 * 1024 * 1024, f"{grown} bytes for {CLIENTS} clients that don't read"
            for socket in crowd:
                socket.close()
            assert client("status")["tasks"]["succeeded"] == CLIENTS + 2
    finally:
        context.destroy(linger=0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_clients_that_go_in_the_middle_of_a_submission(daemon: Daemon) -> None:
    """What is not complete does not run, can be taken up by another client, and is in nobody's way."""
    halves = [str(uuid.uuid4()) for _ in range(20)]
    for submission in halves:
        with Raw(daemon.endpoint) as client:
            client("submit", submission=submission, tasks=[{"type": "echo", "id": "a"}], complete=False)
            client.send(
                "submit", submission=submission, tasks=[{"type": "echo", "deps": ["a"]}], offset=1, complete=False
            )
    with Raw(daemon.endpoint) as client:
        assert client.run({"type": "echo"})[0]["ok"]
        assert client("status")["tasks"]["succeeded"] == 1
        for submission in halves[::2]:
            received = client("submission", submission=submission)["received"]
            assert received in (1, 2)
            client("submit", submission=submission, tasks=[{"type": "echo", "id": "last"}], offset=received)
        for submission in halves[1::2]:
            client("discard", submission=submission)
        flows = [client("submission", submission=submission)["flow"] for submission in halves[::2]]
        client.wait(*(f"f{flow}" for flow in flows))
        assert set(client("status")["flows"]) == {"succeeded"}
