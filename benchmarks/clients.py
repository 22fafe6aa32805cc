"""Tasks submitted one at a time, each acknowledged after its fsync, by 1 and by 16 clients.

The clients are of libzmq alone with requests packed beforehand, so that what is measured is the daemon. Beside it, measured
alone: a server of one thread with a ROUTER socket that unpacks the same request, commits one row and answers (`bare.py`).
`queued`: into a paused queue, which is what the bare server does, too; `run`: the tasks are run meanwhile.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import zmq

from benchmarks.bare import server
from benchmarks.box import Box
from benchmarks.figures import Figure
from benchmarks.report import ROUNDS, main, say
from benchmarks.wire import Wire, request

CLIENTS = 16
ONE, MANY = 3_000, 12_000


def _frames(count: int, queue: str) -> list[bytes]:
    task = {"type": "echo", "queue": queue, "data": {"text": "x" * 100}}
    return [request("submit", {"submission": str(uuid.uuid4()), "tasks": [task]}, number) for number in range(count)]


def rate(endpoint: str, clients: int, frames: list[bytes]) -> float:
    """Acknowledged requests a second; each client has one on its way."""
    context: zmq.Context[Any] = zmq.Context()
    sockets = [context.socket(zmq.DEALER) for _ in range(clients)]
    poller = zmq.Poller()
    for dealer in sockets:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(endpoint)
        poller.register(dealer, zmq.POLLIN)
    waiting = iter(frames)
    replies: list[bytes] = []
    begin = time.perf_counter()
    for dealer in sockets:
        dealer.send(next(waiting))
    while len(replies) < len(frames):
        for dealer, _ in poller.poll():
            replies.append(dealer.recv())
            following = next(waiting, None)
            if following is not None:
                dealer.send(following)
    seconds = time.perf_counter() - begin
    for dealer in sockets:
        dealer.close()
    context.term()
    for reply in replies:
        Wire.body(Wire.unpack(reply))  # none was refused
    return len(frames) / seconds


def measure(short: bool = False) -> list[Figure]:
    """Both sides in turns."""
    one, many = (ONE // 6, MANY // 6) if short else (ONE, MANY)
    names = ("bare 1", "bare 16", "queued 1", "queued 16", "run 1", "run 16")
    found: dict[str, list[float]] = {name: [] for name in names}
    with Box(workers=2) as box, server() as bare:
        wire = box.wire()
        wire("pause", queue="parked")
        rate(box.endpoint, CLIENTS, _frames(500, "work"))
        rate(bare, CLIENTS, _frames(500, "work"))
        for number in range(ROUNDS):
            for count, tasks in ((1, one), (CLIENTS, many)):
                sides: dict[str, Callable[[], float]] = {
                    "bare": lambda count=count, tasks=tasks: rate(bare, count, _frames(tasks, "work")),  # type: ignore[misc]
                    "queued": lambda count=count, tasks=tasks: rate(box.endpoint, count, _frames(tasks, "parked")),  # type: ignore[misc]
                    "run": lambda count=count, tasks=tasks: rate(box.endpoint, count, _frames(tasks, "work")),  # type: ignore[misc]
                }
                for side, took in sides.items():
                    found[f"{side} {count}"].append(took())
                done = wire.counts("work")
                wire.until("work", "succeeded", sum(done.values()))  # the next round begins with an idle daemon
            latest = ", ".join(f"{name} {rates[-1]:,.0f}/s" for name, rates in found.items())
            say(f"single submissions, round {number + 1}: {latest}")
    bare_server = "bare ROUTER + SQLite commit"
    return [
        Figure(
            "1 client, queued", found["queued 1"], "/s", bare_server, found["bare 1"], least=0.8, settings=_SETTINGS
        ),
        Figure("1 client, run", found["run 1"], "/s", bare_server, found["bare 1"]),
        Figure("16 clients, queued", found["queued 16"], "/s", least=10_000),
        Figure("16 clients, queued", found["queued 16"], "/s", f"{bare_server}, 16 clients", found["bare 16"]),
        Figure("16 clients, run", found["run 16"], "/s", f"{bare_server}, 16 clients", found["bare 16"]),
    ]


_SETTINGS = (
    "one request on its way for each client, acknowledged after fsync; 2 workers; `run`: no-op tasks run meanwhile"
)

if __name__ == "__main__":
    main(__doc__, measure, "clients")
