"""What a no-op task costs on the wire and in system calls: counted on a real daemon, and not timed.

The bounds are 15 % above what was counted when they were written, so that a quarter more goes red. What depends on the moment is left
out: how often threads wake one another, and the daemon's loop.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from helpers.daemon import Daemon, running

from gemflowctl import Client

#: Calls by which threads wait for one another, or the loop for whatever comes.
_OF_THE_MOMENT = frozenset({"futex", "epoll_wait", "epoll_pwait", "restart_syscall"})


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(workers=1) as daemon:
        yield daemon


class Wire:
    """Stands between a client and the daemon, and counts the bytes of all frames. `sent` are the client's."""

    def __init__(self, context: zmq.Context[Any], daemon: Daemon) -> None:
        self.endpoint = f"ipc://{daemon.directory}/wire.sock"
        self.sent = self.received = 0
        self._front, self._back, self._end = (context.socket(kind) for kind in (zmq.ROUTER, zmq.DEALER, zmq.PAIR))
        self._front.bind(self.endpoint)
        self._back.connect(daemon.endpoint)
        self._end.bind("inproc://end")

    def run(self) -> None:
        poller = zmq.Poller()
        for one in (self._front, self._back, self._end):
            poller.register(one, zmq.POLLIN)
        peer = b""
        while True:
            ready = dict(poller.poll())
            if self._front in ready:
                peer, *frames = self._front.recv_multipart()
                self.sent += sum(map(len, frames))
                self._back.send_multipart(frames)
            if self._back in ready:
                frames = self._back.recv_multipart()
                self.received += sum(map(len, frames))
                self._front.send_multipart([peer, *frames])
            if self._end in ready:
                break
        for one in (self._front, self._back, self._end):
            one.close(linger=0)


@contextmanager
def wire_to(daemon: Daemon) -> Iterator[Wire]:
    with zmq.Context() as context:
        wire = Wire(context, daemon)
        thread = threading.Thread(target=wire.run)
        thread.start()
        try:
            yield wire
        finally:
            with context.socket(zmq.PAIR) as end:
                end.connect("inproc://end")
                end.send(b"")
                thread.join()


def test_bytes_on_the_wire_of_a_thousand_tasks(daemon: Daemon) -> None:
    with wire_to(daemon) as wire, Client(wire.endpoint) as client:
        flow = client.submit_batch([{"type": "echo", "data": {"n": n}} for n in range(1_000)])
        flow.wait()
        submitted, answered = wire.sent, wire.received
        assert len(list(client.results(flow.ref))) == 1_000
        fetched = wire.received - answered
    # A task's map is 22 bytes, and its result line 142.
    # 21,751, 186 and 90,304: 22 bytes of a task, 90 of its result.
    assert submitted <= 25_000
    assert answered <= 300
    assert fetched <= 104_000


@contextmanager
def system_calls(daemon: Daemon, report: Path) -> Iterator[None]:
    """Count those of all threads of the daemon, not of its workers, into a report of strace."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    with subprocess.Popen(
        [strace, "-f", "-c", "-o", str(report), "-p", str(daemon.pid)], stderr=subprocess.PIPE, text=True
    ) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if "attached" not in said:
            tracer.wait()
            pytest.skip(f"strace may not look at the daemon: {said.strip()}")
        try:
            yield
        finally:
            tracer.terminate()
            tracer.stderr.read()


def test_system_calls_of_a_hundred_tasks_one_after_the_other(daemon: Daemon, tmp_path: Path) -> None:
    ask = daemon.client()
    ask.run({"type": "echo"})  # the worker is there
    with system_calls(daemon, tmp_path / "report"):
        for _ in range(100):
            ask.wait(f"f{ask.submit({'type': 'echo'})['flow']}")
    calls: dict[str, int] = {}
    for line in (tmp_path / "report").read_text().splitlines():
        columns = line.split()
        if len(columns) in (5, 6) and columns[3].isdigit() and columns[-1] not in ("total", *_OF_THE_MOMENT):
            calls[columns[-1]] = int(columns[3])
    told = sorted(calls.items(), key=lambda call: -call[1])[:12]
    # 200 and about 16,000, by a percent or two: a commit for the start and one for the end.
    assert calls["fdatasync"] <= 210, told
    assert sum(calls.values()) <= 17_100, told
