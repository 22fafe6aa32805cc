"""What the machine does without us, each measured alone: a commit, a hop through a socket, and a server of one thread that
stores what it is sent and answers after the commit. `python -m benchmarks.bare ENDPOINT FILE` is that server.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import apsw
import msgpack
import zmq

from benchmarks.box import ROOT

_FRAME = 280  # bytes: about a request with one small task


def database(path: Path) -> apsw.Connection:
    """A database as durable as the daemon's, with one table."""
    db = apsw.Connection(str(path))
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE IF NOT EXISTS task (number INTEGER PRIMARY KEY, name TEXT, body BLOB)")
    return db


def commits(times: int) -> list[float]:
    """Seconds of each of so many commits of one row, with fsync."""
    taken = []
    with tempfile.TemporaryDirectory(prefix="gf-bench-") as directory:
        db = database(Path(directory) / "bare.db")
        for number in range(times):
            begin = time.perf_counter()
            with db:
                db.execute("INSERT INTO task VALUES (?, ?, ?)", (number, str(number), b"x" * _FRAME))
            taken.append(time.perf_counter() - begin)
        db.close()
    return taken


def client_trips(times: int) -> list[float]:
    """Seconds of each of so many round trips DEALER → ROUTER → DEALER over ipc, with another process: two hops."""
    with tempfile.TemporaryDirectory(prefix="gf-bench-") as directory:
        endpoint = f"ipc://{directory}/s"
        with _other(_echo_router, endpoint), _dealer(endpoint) as dealer:
            return _timed(times, lambda: (dealer.send(b"x" * _FRAME), dealer.recv()))


def worker_trips(times: int) -> list[float]:
    """The same over a socketpair: two hops."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            process = multiprocessing.get_context("fork").Process(target=_echo_pair, args=(theirs, ours), daemon=True)
            process.start()
        try:
            return _timed(times, lambda: ours.recv(4096) if ours.send(b"x" * _FRAME) else b"")
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            process.join()


@contextmanager
def server() -> Iterator[str]:
    """The bare server on a database of its own. Yields its endpoint."""
    with tempfile.TemporaryDirectory(prefix="gf-bench-") as directory:
        endpoint = f"ipc://{directory}/s"
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare", endpoint, f"{directory}/bare.db"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield endpoint
        finally:
            process.kill()
            process.communicate()


def _serve(endpoint: str, path: Path) -> None:
    db = database(path)
    context: zmq.Context[Any] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(endpoint)
    print("ready", flush=True)
    number = 0
    while True:
        parts = router.recv_multipart()
        request = msgpack.unpackb(parts[-1])
        number += 1
        body = request["body"]
        with db:
            db.execute(
                "INSERT INTO task VALUES (?, ?, ?)",
                (number, body["submission"], msgpack.packb(body["tasks"][0]["data"])),
            )
        router.send_multipart(
            [parts[0], msgpack.packb({"v": 1, "id": request["id"], "ok": True, "body": {"flow": number}})]
        )


def _timed(times: int, trip: Any) -> list[float]:
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        trip()
        taken.append(time.perf_counter() - begin)
    return taken


@contextmanager
def _dealer(endpoint: str) -> Iterator[Any]:
    context: zmq.Context[Any] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(endpoint)
    try:
        yield dealer
    finally:
        dealer.close()
        context.term()


@contextmanager
def _other(target: Any, endpoint: str) -> Iterator[None]:
    """A process that serves an endpoint; spawned, because no ZeroMQ context may survive a fork."""
    context = multiprocessing.get_context("spawn")
    ready, told = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(endpoint, told), daemon=True)
    process.start()
    try:
        ready.recv()
        yield
    finally:
        process.kill()
        process.join()


def _echo_router(endpoint: str, told: Connection) -> None:
    context: zmq.Context[Any] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(endpoint)
    told.send(True)
    while True:
        router.send_multipart(router.recv_multipart())


def _echo_pair(theirs: socket.socket, ours: socket.socket) -> None:
    ours.close()
    while data := theirs.recv(4096):
        theirs.sendall(data)
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]))
