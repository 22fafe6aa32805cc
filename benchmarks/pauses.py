"""How long does the daemon keep others waiting while it does something large? Two probes ask every 2 ms, one the loop, one the
engine, while flows of N tasks are received, run, settled, cancelled and deleted, and while the daemon is killed in the
middle and goes on. Three shapes:

  layers     100 layers, N tasks, N dependencies
  parents    one task that depends on N others
  children   one task that N others depend on

Each line is a phase: its seconds, the longest round trip and the 99th percentile of loop and engine, and in `cpu` how long
that thread was on a processor during the longest one: what is much longer than its `cpu` was the machine's doing, or the disk's.
`over` is the share of the time that was spent in round trips of more than 100 ms. `machine` is the longest that a probe
overslept: what nobody but the machine is to blame for. The lines `idle` and `busy machine` say what both are without work.

No pause should be longer than 100 ms (docs/architecture.md). A round trip may have to wait for two turns, and with --pipeline
for as many more as there are chunks before it.
"""

from __future__ import annotations

import argparse
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.box import Box, Threads
from benchmarks.probe import Probe, Trip
from benchmarks.report import again, parser, say, table
from benchmarks.shapes import SHAPES
from benchmarks.wire import Wire, request

LONG = 0.1
_TRIPS = ["cpu", "p99", "over"]
HEAD = ["phase", "s", "loop longest", *_TRIPS, "engine longest", *_TRIPS, "machine", "loop cpu", "engine cpu"]


@dataclass
class Phase:
    name: str
    begin: float
    end: float = 0.0
    loop_used: float = 0.0
    engine_used: float = 0.0
    pings: list[Trip] = field(default_factory=list)
    turns: list[Trip] = field(default_factory=list)

    def take(self, pings: Sequence[Trip], turns: Sequence[Trip]) -> None:
        self.pings = [trip for trip in pings if self.begin <= trip.at < self.end]
        self.turns = [trip for trip in turns if self.begin <= trip.at < self.end]

    def row(self) -> list[str]:
        seconds = self.end - self.begin
        used = (self.loop_used / seconds, self.engine_used / seconds)
        overslept = max((trip.overslept for trip in [*self.pings, *self.turns]), default=0.0)
        return [
            self.name,
            f"{seconds:.1f}",
            *_trips(self.pings, seconds, lambda trip: trip.loop),
            *_trips(self.turns, seconds, lambda trip: trip.engine),
            f"{overslept * 1e3:.0f} ms",
            *(f"{share:.0%}" for share in used),
        ]


def _trips(trips: Sequence[Trip], seconds: float, used: Callable[[Trip], float]) -> list[str]:
    if len(trips) < 2:
        return ["-", "-", "-", "-"]
    longest = max(trips, key=lambda trip: trip.took)
    p99 = statistics.quantiles((trip.took for trip in trips), n=100)[98]
    over = sum(trip.took for trip in trips if trip.took > LONG) / seconds
    return [f"{longest.took * 1e3:.0f} ms", f"{used(longest) * 1e3:.0f}", f"{p99 * 1e3:.0f}", f"{over:.0%}"]


class Watch:
    """The probes of one daemon, over its kills, and the phases that were seen."""

    def __init__(self, box: Box, pipeline: int) -> None:
        self.box = box
        self.pipeline = pipeline
        self.phases: list[Phase] = []
        self._unread: list[Phase] = []
        self.begin()

    def begin(self) -> None:
        self.wire: Wire = self.box.wire()
        self._threads = Threads(self.box.pid)
        self._probes = [Probe(self.box, op) for op in ("ping", "discard")]

    def read(self) -> None:
        """Stop the probes and give every phase its round trips."""
        pings, turns = (probe.stop() for probe in self._probes)
        self._threads.close()
        for phase in self._unread:
            phase.take(pings, turns)
            self.phases.append(phase)
        self._unread = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        phase = Phase(name, time.monotonic())
        before = self._threads.read()
        yield
        phase.end = time.monotonic()
        loop, engine = (now.since(then) for now, then in zip(self._threads.read(), before, strict=True))
        phase.loop_used, phase.engine_used = loop.running, engine.running
        self._unread.append(phase)
        say(f"{name}: {phase.end - phase.begin:.1f} s")

    def kill(self) -> None:
        """kill -9, start again, and new probes: they miss the first quarter of a second of what goes on."""
        self.read()
        self.box.end(signal.SIGKILL)
        self.box.start()
        self.begin()


def removed(box: Box) -> None:
    """Wait until nothing of a deleted flow is left."""
    with sqlite3.connect(f"file:{box.database()}?mode=ro", uri=True) as db:
        while db.execute("SELECT count(*) FROM flow WHERE deleted = 1").fetchone()[0]:
            time.sleep(0.05)
    db.close()


def share_ended(wire: Wire, flow: int, share: float) -> None:
    """Wait until so much of a flow has ended."""
    while True:
        found = wire("status", refs=[f"f{flow}"])["items"][0]
        left = sum(found["tasks"].get(state, 0) for state in ("scheduled", "blocked", "ready", "held", "running"))
        if left <= found["total"] * (1 - share):
            return
        time.sleep(0.02)


def receive(watch: Watch, shape: str, count: int, name: str) -> int:
    tasks = SHAPES[shape](count, queue="q")
    watch.wire("pause", queue="q")
    with watch.phase(f"{shape}: {name}"):
        flow = watch.wire.submit(tasks, pipeline=watch.pipeline)
        if shape != "layers":  # dependencies that are put aside are taken apart later
            linked(watch.box)
    return flow


def linked(box: Box) -> None:
    with sqlite3.connect(f"file:{box.database()}?mode=ro", uri=True) as db:
        while db.execute("SELECT count(*) FROM (SELECT 1 FROM pending_edge LIMIT 1)").fetchone()[0]:
            time.sleep(0.05)
    db.close()


def run_and_delete(watch: Watch, shape: str, count: int) -> None:
    flow = receive(watch, shape, count, "receive")
    with watch.phase(f"{shape}: run, settle"):
        watch.wire("resume", queue="q")
        watch.wire.wait(f"f{flow}")
    with watch.phase(f"{shape}: delete"):
        watch.wire("delete", refs=[f"f{flow}"])
        removed(watch.box)


def settle_children(watch: Watch, count: int) -> None:
    """The parent ends while its children's queue is paused: nothing but the settling of their dependencies."""
    first, *others = SHAPES["children"](count, queue="parked")
    watch.wire("pause", queue="parked")
    flow = watch.wire.submit([{**first, "queue": "go"}, *others])
    with watch.phase("children: settle alone"):
        watch.wire.until("parked", "ready", count, 0.05)
    with watch.phase("children: cancel when ready"):
        watch.wire("cancel", refs=[f"f{flow}"])
        watch.wire.wait(f"f{flow}")


def cancel_and_delete(watch: Watch, shape: str, count: int) -> None:
    flow = receive(watch, shape, count, "receive another")
    with watch.phase(f"{shape}: cancel"):
        watch.wire("cancel", refs=[f"f{flow}"])
        watch.wire.wait(f"f{flow}")
    with watch.phase(f"{shape}: delete cancelled"):
        watch.wire("delete", refs=[f"f{flow}"])
        removed(watch.box)


def killed(watch: Watch, shape: str, count: int) -> None:
    """Killed in the middle of running, cancelling and deleting; what is measured is how it goes on."""
    flow = receive(watch, shape, count, "receive a third")
    watch.wire("resume", queue="q")
    share_ended(watch.wire, flow, 0.05)
    watch.kill()
    with watch.phase(f"{shape}: settle, after a kill"):
        share_ended(watch.wire, flow, 0.08)
    watch.wire("pause", queue="q")
    watch.wire.send(request("cancel", {"refs": [f"f{flow}"]}))
    share_ended(watch.wire, flow, 0.3)
    watch.kill()
    with watch.phase(f"{shape}: cancel, after a kill"):
        watch.wire.wait(f"f{flow}")
    watch.wire("delete", refs=[f"f{flow}"])
    watch.kill()
    with watch.phase(f"{shape}: delete, after a kill"):
        removed(watch.box)


def without_work(watch: Watch) -> None:
    time.sleep(1.0)  # until the probes ask
    with watch.phase("idle"):
        time.sleep(3.0)
    burn = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(burn) for _ in range(2)]
    try:
        with watch.phase("busy machine"):
            time.sleep(3.0)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--tasks", type=int, default=100_000, metavar="N", help="default: %(default)s")
    options.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="default: all")
    options.add_argument("--pipeline", type=int, default=1, help="chunks on their way at a time (default: %(default)s)")
    options.add_argument("--no-kills", action="store_true", help="leave out the kills")
    arguments: argparse.Namespace = options.parse_args()
    count: int = arguments.tasks
    with Box(workers=2) as box:
        watch = Watch(box, arguments.pipeline)
        without_work(watch)
        for shape in arguments.shapes:
            run_and_delete(watch, shape, count)
            cancel_and_delete(watch, shape, count)
            if shape == "children":
                settle_children(watch, count)
            if not arguments.no_kills:
                killed(watch, shape, count)
        watch.read()
    print(f"flows of {count:,} tasks or dependencies; times of round trips in ms")
    table(HEAD, [phase.row() for phase in watch.phases])
    again("pauses")


if __name__ == "__main__":
    main()
