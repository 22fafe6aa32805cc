"""Model calls of a second against the stand-in, 500 in flight: `gemini` tasks beside bare asyncio with google-genai in one process.

The bare side has the same settings as a worker: an `aiohttp` session of its own without a limit, and no retries. `per process` divides
the rate by the coroutine workers that were used. The memory is that of the workers (PSS) with all calls in flight.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.box import ROOT, Box, proportional
from benchmarks.figures import Figure
from benchmarks.report import ROUNDS, main, say
from benchmarks.wire import Wire

CALLS, FLIGHT, LATENCY = 2_000, 500, 1.0


@contextmanager
def stand_in(latency: float) -> Iterator[str]:
    """A stand-in in a process of its own. Yields its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gemflowd", "stand-in", "--latency", str(latency)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
    finally:
        process.terminate()
        process.communicate()


class Bare:
    """The other side, in a process of its own that stays warm (`bare_calls.py`)."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "benchmarks.bare_calls", url]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def rate(self, calls: int, flight: int) -> tuple[float, float]:
        """Calls a second, and MB of the process at its largest."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(calls, flight, file=self._process.stdin, flush=True)
        seconds, memory = json.loads(self._process.stdout.readline())
        return calls / seconds, memory

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def ours(box: Box, calls: int) -> tuple[float, int, float]:
    """Calls a second, coroutine workers that were used, and MB of those (PSS) in the middle of it."""
    wire = box.wire()
    task = {"type": "gemini", "data": {"prompt": "Say something.", "model": "gemini-2.5-flash"}}
    tasks = [{**task, "data": {**task["data"], "prompt": f"Say {number}."}} for number in range(calls)]  # type: ignore[dict-item]
    begin = time.perf_counter()
    flow = wire.submit(tasks, pipeline=2)
    wire.until("default", "running", 1)
    time.sleep(LATENCY / 2)  # calls are in flight
    found = _coroutine_workers(wire)
    memory = sum(proportional(pid) for pid in found)
    wire.wait(f"f{flow}")
    seconds = time.perf_counter() - begin
    after = _coroutine_workers(wire)
    failed = wire.counts("default").get("failed", 0)
    assert not failed, f"{failed} calls failed"
    return calls / seconds, max(len(found), len(after)), memory


def _coroutine_workers(wire: Wire) -> list[int]:
    return [
        worker["pid"] for worker in wire("workers")["workers"] if worker["kind"] == "coroutine" and worker.get("pid")
    ]


def measure(short: bool = False) -> list[Figure]:
    """Both sides in turns: 500 in flight with one worker and with two, and twice as many in flight."""
    calls = CALLS // 2 if short else CALLS
    figures = []
    shapes = (
        (f"{FLIGHT} in flight, workers=1", 1, FLIGHT),
        (f"{FLIGHT} in flight, workers=2", 2, FLIGHT // 2),
        (f"{2 * FLIGHT} in flight, workers=4", 4, FLIGHT // 2),
    )
    with stand_in(LATENCY) as url:
        for name, workers, batch in shapes[:1] if short else shapes:
            bare, other = Bare(url), []
            rates: list[float] = []
            counts: list[int] = []
            memories: list[tuple[float, float]] = []
            with Box(workers=workers, batch_size=batch, gemini_endpoint=url, env={"GEMINI_API_KEY": "none"}) as box:
                ours(box, workers * batch)  # the workers are there, and connected
                bare.rate(FLIGHT, FLIGHT)
                for _ in range(ROUNDS):
                    rate, count, memory = ours(box, calls)
                    bare_rate, bare_memory = bare.rate(calls, FLIGHT)
                    rates.append(rate)
                    other.append(bare_rate)
                    counts.append(count)
                    memories.append((memory, bare_memory))
            bare.close()
            say(
                f"calls, {name}: {', '.join(f'{rate:.0f}/s' for rate in rates)} by {counts} workers, bare {other[-1]:.0f}/s"
            )
            used = max(counts)
            settings = (
                f"workers={workers} batch_size={batch}, {used} coroutine workers; "
                f"the other one process, {FLIGHT} in flight"
            )
            label = f"{calls:,} calls of {LATENCY:g} s, {name}"
            figures.append(Figure(label, rates, "/s", "bare google-genai", other, least=0.95, settings=settings))
            figures.append(
                Figure(
                    "  their workers' memory", [mine for mine, _ in memories], "MB", "", [both for _, both in memories]
                )
            )
            if used > 1:
                each = [rate / count for rate, count in zip(rates, counts, strict=True)]
                figures.append(
                    Figure(f"  the same by each of {used} processes", each, "/s", "bare google-genai", other)
                )
    return figures


if __name__ == "__main__":
    main(__doc__, measure, "calls")
