"""What the daemon itself takes: processor time for each no-op task, and memory when nothing runs.

The processor time is that of the daemon's process, of all threads (not of workers and clients), for 20,000 tasks in one flow
that are submitted, run and fetched. The memory is PSS (shared pages by their share) of the daemon, the nursery and 4 blocking
workers that have run something, idle.
"""

from __future__ import annotations

import time

import psutil

from benchmarks.box import Box, proportional
from benchmarks.figures import Figure
from benchmarks.report import ROUNDS, main, say
from benchmarks.throughput import gemflow_rate
from gemflowctl import Client

TASKS = 20_000
WORKERS = 4


def seconds_of(pid: int) -> float:
    """Processor time of a process, of all its threads."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def processor(tasks: int) -> list[float]:
    """Microseconds of the daemon for each task, by rounds."""
    each = []
    with Box(workers=2) as box, Client(box.endpoint) as gemflow:
        gemflow_rate(gemflow, tasks // 10)
        for _ in range(ROUNDS):
            before = seconds_of(box.pid)
            gemflow_rate(gemflow, tasks)
            each.append((seconds_of(box.pid) - before) / tasks * 1e6)
    return each


def idle_memory(key: str = "") -> tuple[float, float]:
    """MB of daemon, nursery and warm workers, and of the daemon alone. With a key for models their SDK is loaded."""
    with Box({"GEMINI_API_KEY": key}, workers=WORKERS) as box, Client(box.endpoint) as gemflow:
        gemflow.submit_batch([{"type": "spin", "data": {"seconds": 0.05}}] * WORKERS * 4).wait()
        while len([w for w in gemflow.workers()["workers"] if w["kind"] == "blocking" and w["pid"]]) < WORKERS:
            time.sleep(0.05)
        time.sleep(1.0)  # what was left to do is done
        below = psutil.Process(box.pid).children(recursive=True)
        return sum(proportional(pid) for pid in (box.pid, *(child.pid for child in below))), proportional(box.pid)


def measure(short: bool = False) -> list[Figure]:
    """Both, by themselves."""
    tasks = TASKS // 2 if short else TASKS
    each = processor(tasks)
    say(f"processor time: {', '.join(f'{value:.0f}' for value in each)} µs a task")
    memory = [idle_memory() for _ in range(ROUNDS)]
    say(f"idle: {', '.join(f'{whole:.0f} MB' for whole, _ in memory)}")
    whole, alone = [value[0] for value in memory], [value[1] for value in memory]
    loaded = [idle_memory("no-key")[0] for _ in range(ROUNDS)]
    return [
        Figure(
            "daemon's CPU time for a no-op task", each, "µs", most=30.0, settings=f"{tasks:,} in one flow, 2 workers"
        ),
        Figure(
            f"memory (PSS) idle, {WORKERS} warm workers",
            whole,
            "MB",
            most=120.0,
            settings="daemon, nursery, workers; no key for models",
        ),
        Figure("the same with a key for models", loaded, "MB", settings="their SDK is loaded ahead, once for all"),
        Figure("memory (PSS) of the daemon alone", alone, "MB"),
    ]


if __name__ == "__main__":
    main(__doc__, measure, "overhead")
