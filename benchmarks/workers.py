"""What it costs that workers come and go.

recycling    tasks a second of short tasks of one millisecond, with every worker replaced after N of them against never, in turns
             in one daemon                                                                           (aim: at least 0.98)
fresh        from the decision to start a worker (before its fork) to the first line of its first task, while tasks wait
             (aim: median at most 20 ms)
coroutines   N coroutines of a second in N slots: seconds for all of them over the one second that they take
             (aim: less than 1.5)
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.box import ROOT, Box
from benchmarks.report import again, parser, say, table
from benchmarks.wire import Wire

ROUNDS = 7


def rate(wire: Wire, tasks: int) -> float:
    """Tasks of a millisecond a second, submitted together."""
    begin = time.perf_counter()
    flow = wire.submit([{"type": "spin", "data": {"seconds": 0.001}}] * tasks)
    wire.wait(f"f{flow}")
    return tasks / (time.perf_counter() - begin)


def recycling(tasks: int, each: int) -> list[str]:
    with Box(workers=2, min_life=0.0) as box:
        wire = box.wire()
        rate(wire, tasks)
        ratios, replaced = [], 0
        for number in range(ROUNDS):
            rates = {}
            for most in (0, each) if number % 2 else (each, 0):
                wire("config", set={"max_tasks": most})
                rates[most] = rate(wire, tasks)
            ratios.append(rates[each] / rates[0])
            say(f"recycling: {rates[each]:.0f} tasks/s with, {rates[0]:.0f} without")
        replaced = box.log.read_text().count("is replaced")
    return [
        f"recycling after {each} tasks",
        f"{statistics.median(ratios):.3f} of the rate without ({min(ratios):.3f} to {max(ratios):.3f})",
        f"{replaced} replaced in {ROUNDS} rounds of {tasks}",
    ]


def fresh(times: int) -> list[str]:
    with Box(workers=1, handlers=["benchmarks.sleepy"], handler_path=[str(ROOT)]) as box:
        wire = box.wire()
        flow = wire.submit([{"type": "began", "data": {"seconds": 0.05}}] * 2_000)
        wire.until("default", "succeeded", 3)
        known: set[int] = set()
        born: dict[int, float] = {}
        for count in range(2, times + 2):
            wire("config", set={"workers": count})
            while len(known) < count:  # no event says when a process has come to be; a poll of a millisecond does
                for worker in wire("workers")["workers"]:
                    if worker["kind"] == "blocking" and worker["pid"] and worker["pid"] not in known:
                        known.add(worker["pid"])
                        born[worker["pid"]] = worker["started"]
        began = wire.until("default", "succeeded", times * 4)
        assert began
        first: dict[int, float] = {}
        after: int | None = 0
        while after is not None:
            page = wire("results", refs=[f"f{flow}"], after=after)
            for line in page["results"]:
                pid, at = line["result"]
                first[pid] = min(at, first.get(pid, at))
            after = page["next"]
        wire("cancel", refs=[f"f{flow}"])
    waits = sorted((first[pid] - born[pid]) * 1e3 for pid in list(born)[1:] if pid in first)
    say(f"fresh: {', '.join(f'{wait:.1f}' for wait in waits)} ms")
    return [
        "fresh worker",
        f"first task after {statistics.median(waits):.1f} ms ({waits[0]:.1f} to {waits[-1]:.1f})",
        f"{len(waits)} workers",
    ]


def coroutines(slots: int) -> list[str]:
    with Box(workers=4, batch_size=-(-slots // 4)) as box:
        wire = box.wire()
        wire.wait(f"f{wire.submit([{'type': 'sleep', 'data': {'seconds': 0}}])}")  # the first worker is there
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            flow = wire.submit([{"type": "sleep", "data": {"seconds": 1.0}}] * slots)
            wire.wait(f"f{flow}")
            seconds.append(time.perf_counter() - begin)
            say(f"coroutines: {seconds[-1]:.2f} s")
    return [
        f"{slots} coroutines of 1 s",
        f"{seconds[0]:.2f} times the ideal from one worker on, {min(seconds[1:]):.2f} when they are there",
        "",
    ]


def main() -> None:
    arguments: argparse.ArgumentParser = parser(__doc__)
    arguments.add_argument("--tasks", type=int, default=4_000, help="short tasks a round")
    arguments.add_argument("--each", type=int, default=1_000, help="tasks after which a worker is replaced")
    arguments.add_argument("--fresh", type=int, default=20, help="workers that are started one by one")
    arguments.add_argument("--slots", type=int, default=2_000, help="coroutines")
    options = arguments.parse_args()
    rows = [recycling(options.tasks, options.each), fresh(options.fresh), coroutines(options.slots)]
    table(["what", "figure", ""], rows)
    again("workers")


if __name__ == "__main__":
    main()
