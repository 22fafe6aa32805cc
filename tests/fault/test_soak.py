"""Good tasks among tasks that leak, crash, hang, fork and eat memory, round after round.

Each good one succeeds, each bad one ends in its class with its cause, and the daemon is afterwards as it was before: memory, descriptors,
processes. Half a minute here; `make soak` makes it ten minutes (GEMFLOW_SOAK, seconds). The seed is printed; GEMFLOW_SEED repeats it.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from helpers.daemon import Daemon, running, wait_gone, with_handlers
from helpers.raw import Raw

SECONDS = float(os.environ.get("GEMFLOW_SOAK", "20"))
SEED = int(os.environ.get("GEMFLOW_SEED", "1"))
#: MB that the daemon may have more at the end than after the first rounds, beside what SQLite has: its cache of pages fills up.
GROWTH = 12
#: MB that SQLite may have: 32 for the queue's connection, and 2 for each of the others, with what it needs for itself.
STORE = 44
WARM_UP = 3


class Kind(NamedTuple):
    """A task, how many of them a round has, and how it must end: its state and, without success, the code of its error."""

    task: dict[str, Any]
    count: int
    state: str = "succeeded"
    code: str | None = None


def of(kind: str, **data: Any) -> dict[str, Any]:
    return {"type": kind, "data": data}


#: Bad ones are tried once, so that each round ends soon.
ONCE = {"retries": 0}
KINDS = (
    Kind(of("whoami"), 60),
    Kind(of("whoami", seconds=0.02), 20),
    Kind(of("awhoami", seconds=0.05), 60),
    Kind(of("echo", text="x" * 1000), 40),
    Kind({**of("command", args=["true"])}, 5),
    Kind(of("leak", mb=20), 6),
    Kind(of("leave-behind"), 2),
    Kind({**of("fail"), **ONCE}, 3, "failed", "error"),
    Kind(of("refuse"), 3, "failed", "senseless"),
    Kind({**of("eat"), **ONCE}, 1, "failed", "memory"),
    Kind({**of("child-eats", mb=400), **ONCE}, 1, "failed", "memory"),
    Kind({**of("aeat"), **ONCE}, 1, "failed", "memory"),
    Kind({**of("nap", seconds=1000), **ONCE, "timeout": 0.2}, 2, "failed", "timeout"),
    Kind({**of("stubborn"), **ONCE, "timeout": 0.2}, 1, "failed", "timeout"),
    Kind({**of("adeaf", seconds=1000), **ONCE, "timeout": 0.3}, 1, "failed", "timeout"),
    Kind(of("die", how="SIGSEGV"), 1, "quarantined", "crash"),
    Kind(of("die", how="exit"), 1, "quarantined", "crash"),
)


def one_round(client: Raw, rng: random.Random) -> Counter[str]:
    """Submit a round in a random order, wait for its end, and look at how each ended."""
    kinds = [kind for kind in KINDS for _ in range(kind.count)]
    rng.shuffle(kinds)
    flow = client.submit(*(kind.task for kind in kinds))["flow"]
    client.wait(f"f{flow}", patience=120.0)
    ended: Counter[str] = Counter()
    for kind, line in zip(kinds, client.results(f"f{flow}"), strict=True):
        code = None if line["ok"] else line["error"]["code"]
        assert (line["state"], code) == (kind.state, kind.code), (kind.task, line, client.show(line["number"]))
        ended[line["state"]] += 1
    client("delete", refs=[f"f{flow}"])
    return ended


class Figures(NamedTuple):
    own_mb: float  # resident, without the database's cache
    store_mb: float
    descriptors: int

    @classmethod
    def of(cls, pid: int, client: Raw) -> Figures:
        store = client("stats")["store_bytes"]
        process = psutil.Process(pid)
        return cls((process.memory_info().rss - store) / 2**20, store / 2**20, process.num_fds())


def settle(daemon: Daemon, client: Raw) -> None:
    """Replace all workers, so that what tasks have left below them is gone, and wait until the new ones are there."""
    before = {worker["pid"] for worker in client("workers")["workers"]}
    for pid in before:
        os.kill(pid, 9)
    for pid in before:
        assert wait_gone(pid)
    for kind in ({"type": "echo"}, of("sleep", seconds=0)):
        assert client.run(kind)[0]["ok"]


@pytest.mark.slow
def test_good_and_bad_together() -> None:
    rng = random.Random(SEED)
    settings = with_handlers("greedy_tasks", workers=3, memory_mb=220, grace=0.3, crash_limit=2, max_tasks=150)
    settings["handlers"].append("odd_tasks")
    with running(**settings, min_life=0.5, max_age=20.0) as daemon:
        client = daemon.client()
        begin, rounds, ended = time.monotonic(), 0, Counter[str]()
        first: Figures | None = None
        while time.monotonic() - begin < SECONDS or rounds <= WARM_UP:
            ended += one_round(client, rng)
            rounds += 1
            if rounds == WARM_UP:
                settle(daemon, client)
                first = Figures.of(daemon.pid, client)
        settle(daemon, client)
        last = Figures.of(daemon.pid, client)
        assert first is not None
        print(f"seed {SEED}: {rounds} rounds, {dict(ended)}; at first {first}, at last {last}")
        assert last.own_mb < first.own_mb + GROWTH
        assert last.store_mb < STORE
        assert last.descriptors <= first.descriptors + 2  # a client's connection may come and go
        workers = {worker["pid"] for worker in client("workers")["workers"]}
        assert set(daemon.left()) - workers == {daemon.nursery()}
        assert not list(Path("/sys/fs/cgroup").glob("**/worker-b*"))
