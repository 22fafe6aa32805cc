"""Asks a daemon every 2 ms and notes how long the answer took: `ping` is answered by the loop, `discard` of what nobody
submitted by a turn of the engine. A process of its own for each, so that the benchmark's own work is in nobody's way.

Beside each round trip: the processor time that loop and engine used meanwhile, the time in which they were ready but had no
processor, and how much later than asked the probe itself woke up. The last two are the machine's doing, not the daemon's.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from array import array
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.box import ROOT, Box, Threads
from benchmarks.wire import NoReply, Refusal, Wire

EVERY: Final = 0.002
_FIELDS: Final = 7


class Trip(NamedTuple):
    """One question and its answer. Times in seconds; `at` by the monotonic clock, which all processes share."""

    at: float
    took: float
    loop: float  # on a processor meanwhile
    engine: float
    loop_waited: float  # for a processor
    engine_waited: float
    overslept: float  # the probe, before it asked


class Probe:
    """One running probe: what it found is there after `stop`."""

    def __init__(self, box: Box, op: str) -> None:
        self._file = box.directory / f"probe-{op}-{uuid.uuid4().hex[:8]}"
        command = [sys.executable, "-m", "benchmarks.probe", box.endpoint, str(box.pid), op, str(self._file)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)

    def stop(self) -> list[Trip]:
        self._process.communicate()
        values = array("d", self._file.read_bytes())
        return [Trip(*values[at : at + _FIELDS]) for at in range(0, len(values), _FIELDS)]


def _ask(wire: Wire, op: str) -> None:
    if op == "ping":
        wire("ping")
        return
    try:
        wire("discard", submission=str(uuid.uuid4()))
    except Refusal:
        pass


def run(endpoint: str, pid: int, op: str, path: Path) -> None:
    """Ask until standard input is closed."""
    import selectors

    wire, threads, found = Wire(endpoint), Threads(pid), array("d")
    ended = selectors.DefaultSelector()
    ended.register(sys.stdin, selectors.EVENT_READ)
    while True:
        asleep = time.monotonic()
        if ended.select(EVERY):
            break
        begin = time.monotonic()
        before = threads.read()
        try:
            _ask(wire, op)
        except NoReply:
            break
        took = time.monotonic() - begin
        loop, engine = (after.since(earlier) for after, earlier in zip(threads.read(), before, strict=True))
        found.extend((begin, took, loop.running, engine.running, loop.waiting, engine.waiting, begin - asleep - EVERY))
    path.write_bytes(found.tobytes())
    wire.close()


if __name__ == "__main__":
    arguments: Any = sys.argv[1:]
    run(arguments[0], int(arguments[1]), arguments[2], Path(arguments[3]))
