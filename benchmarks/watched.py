"""What it costs to be watched: the rate of no-op tasks with a subscriber of everything, and with sampling off, over that without.

The subscriber is a process of its own that reads all stored topics and `stats`, as `gemflowctl monitor` and an events follower do.
`monitoring` on with nobody who listens should cost nothing. The processor time of the daemon says the same with less noise.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.box import ROOT, Box
from benchmarks.figures import Figure
from benchmarks.overhead import seconds_of
from benchmarks.report import ROUNDS, main, say
from benchmarks.throughput import gemflow_rate
from gemflowctl import Client

TASKS = 20_000
_TOPICS = ("task", "flow", "worker", "stats")


@contextmanager
def subscriber(endpoint: str) -> Iterator[None]:
    """Another process that reads all events."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.watched", "--follow", endpoint], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()  # its first event: it is subscribed
        yield
    finally:
        process.kill()
        process.communicate()


def follow(endpoint: str) -> None:
    """Read for ever; says when the first one has come."""
    told = False
    with Client(endpoint) as gemflow:
        for _ in gemflow.events(_TOPICS):
            if not told:
                print("subscribed", flush=True)
                told = True


def measure(short: bool = False) -> list[Figure]:
    """Three rates in turns, in one daemon."""
    tasks = TASKS // 4 if short else TASKS
    rates: dict[str, list[float]] = {"watched": [], "alone": [], "off": []}
    used: dict[str, list[float]] = {"watched": [], "alone": [], "off": []}
    with Box(workers=2) as box, Client(box.endpoint) as gemflow:
        gemflow_rate(gemflow, 2_000)

        def take(name: str) -> None:
            before = seconds_of(box.pid)
            rates[name].append(gemflow_rate(gemflow, tasks))
            used[name].append((seconds_of(box.pid) - before) / tasks * 1e6)

        for number in range(ROUNDS if short else 7):
            with subscriber(box.endpoint):
                take("watched")
            take("alone")
            gemflow.config(set={"monitoring": False})
            take("off")
            gemflow.config(reset=["monitoring"])
            say(
                f"watched, round {number + 1}: "
                + ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items())
            )
    name = f"{tasks:,} no-op tasks"
    return [
        Figure(
            f"{name}, 1 subscriber of all events",
            rates["watched"],
            "/s",
            "nobody listens",
            rates["alone"],
            least=0.9,
            settings="the subscriber is a Python process of its own that takes part in the two cores",
        ),
        Figure(
            f"{name}, monitoring on, nobody listens", rates["alone"], "/s", "monitoring off", rates["off"], least=0.98
        ),
        Figure("  the daemon's CPU time for one, watched", used["watched"], "µs", "nobody listens", used["alone"]),
        Figure("  the daemon's CPU time for one, monitoring on", used["alone"], "µs", "monitoring off", used["off"]),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--follow"]:
        follow(sys.argv[2])
    else:
        main(__doc__, measure, "watched")
