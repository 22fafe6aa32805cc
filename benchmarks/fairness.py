"""Does the large keep the small waiting?

fairness   a flow of 100,000 no-op tasks, and while it runs one of 10 of the same priority: how many of the large one start
           before the last of the small one does, with the setting `fair` on (about 10, and what had been handed over) and
           off (all that are left)
isolation  no-op tasks a second in a queue of their own beside N tasks in a paused queue, and beside N behind a limit that
           sleeps, as a ratio to a daemon without them, in turns                                          (aim: >= 0.8)
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from benchmarks.box import ROOT, Box
from benchmarks.report import again, parser, say, table
from benchmarks.wire import Wire, same_tasks

SMALL = 10
ROUNDS = 5
STARTED = 5_000


def events(wire: Wire, position: int, topic: str) -> list[dict[str, Any]]:
    """All stored ones of a topic from that number on."""
    found: list[dict[str, Any]] = []
    while True:
        page = wire("events", **{"from": position}, topics=[topic], limit=5000)
        found += page["events"]
        if page["next"] <= position:
            return found
        position = page["next"]


def overtaken(box: Box, tasks: int, fair: bool) -> list[str]:
    """Submit the large one, then the small one, and count who started when."""
    wire = box.wire()
    wire("config", set={"fair": fair})
    wire("pause", queue="default")
    large = wire.submit([{"type": "echo"}] * tasks)
    wire("resume", queue="default")
    wire.until("default", "succeeded", max(1, tasks // 50))
    position, begin = wire("subscribe")["next"], time.perf_counter()
    small = wire.submit([{"type": "echo"}] * SMALL)
    wire.wait(f"f{small}")
    seconds = time.perf_counter() - begin
    left = wire("status", refs=[f"f{large}"])["items"][0]["tasks"].get("ready", 0)
    wire("cancel", refs=[f"f{large}"])
    started = [event["flow"] for event in events(wire, position, "task.running")]
    last = max(index for index, flow in enumerate(started) if flow == small)
    before = sum(flow == large for flow in started[:last])
    say(f"fair {'on' if fair else 'off'}: {before:,} of the large flow started before the last of the small one")
    return ["on" if fair else "off", f"{before:,}", f"{left:,}", f"{seconds:.2f} s"]


def rate(wire: Wire) -> float:
    """No-op tasks a second, from the end of their queue's pause to the last result."""
    before = wire.counts("work").get("succeeded", 0)
    wire("pause", queue="work")
    wire.pour(same_tasks({"type": "echo", "queue": "work"}, STARTED))
    begin = time.perf_counter()
    wire("resume", queue="work")
    end, _ = wire.until("work", "succeeded", before + STARTED)
    return STARTED / (end - begin)


def fill(wire: Wire, task: dict[str, Any], count: int) -> None:
    for done in range(0, count, 100_000):
        wire.pour(same_tasks(task, min(100_000, count - done)))
        say(f"{min(done + 100_000, count):,} of {count:,} `{task['type']}` tasks queued")


def isolation(count: int) -> list[list[str]]:
    options: dict[str, Any] = {"workers": 2, "handlers": ["benchmarks.sleepy"], "handler_path": [str(ROOT)]}
    with Box(**options) as first, Box(**options) as second, Box(**options) as third:
        alone, paused, asleep = (box.wire() for box in (first, second, third))
        paused("pause", queue="parked")
        asleep.submit([{"type": "sleepy"}])
        while not asleep("status")["paused_limits"]:
            time.sleep(0.05)
        fill(paused, {"type": "echo", "queue": "parked"}, count)
        fill(asleep, {"type": "sleepy", "queue": "work"}, count)
        for wire in (alone, paused, asleep):
            rate(wire)  # what is cold at first
        rates: list[tuple[float, ...]] = []
        for number in range(ROUNDS):
            rates.append(tuple(rate(wire) for wire in (alone, paused, asleep)))
            say(f"round {number + 1}: " + ", ".join(f"{value:,.0f}/s" for value in rates[-1]))
    rows = [["alone", f"{statistics.median(found[0] for found in rates):,.0f}/s", "1.00", ""]]
    for at, name in ((1, "beside a paused queue"), (2, "behind a sleeping limit")):
        pairs = [found[at] / found[0] for found in rates]
        median = statistics.median(found[at] for found in rates)
        row = [name, f"{median:,.0f}/s", f"{statistics.median(pairs):.2f}", f"{min(pairs):.2f} to {max(pairs):.2f}"]
        rows.append(row)
    return rows


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--tasks", type=int, default=1_000_000, metavar="N", help="that wait (default: %(default)s)")
    options.add_argument("--large", type=int, default=100_000, help="tasks of the large flow (default: %(default)s)")
    arguments: argparse.Namespace = options.parse_args()
    with Box(workers=2) as box:
        rows = [overtaken(box, arguments.large, fair) for fair in (True, False)]
    print(f"a flow of {arguments.large:,} tasks, and then one of {SMALL}")
    head = ["fair", "large ones before the last small one", "large ones left then", "the small one took"]
    table(head, rows)
    rows = isolation(arguments.tasks)
    print(f"tasks of another queue, or of no limit, with {arguments.tasks:,} waiting")
    table(["", "median", "ratio", "of the rounds"], rows)
    again("fairness")


if __name__ == "__main__":
    main()
