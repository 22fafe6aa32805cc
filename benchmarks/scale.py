"""Does it matter how much is queued? Memory, rates of submitting and starting, restart and size on disk with N tasks queued.

Two daemons run in one go: a large one with N tasks in a queue, and a small one with 10,000. They take turns in every
measurement, and what counts is the ratio of the medians. What is printed, and its aim:

  memory     resident MB of the daemon, with N queued against none, after 10,000 tasks have gone through it   (+ < 50 MB)
  submit     tasks a second, large against small                                                             (>= 0.8)
  start, behind     no-op tasks of another queue, end to end, while N wait in a paused queue                 (>= 0.8)
  start, same lane  of the N themselves: all are ready, in one lane, of many flows that take turns           (>= 0.8)
  restart    seconds from exec to the first task that runs, after a clean stop and after kill -9             (< 1 s)
  disk       bytes of the database for each queued task

Ten million tasks take some 20 minutes to submit and 10 GB in $TMPDIR: begin with --tasks 1000000.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import time
import uuid
from collections.abc import Callable

from benchmarks.box import Box
from benchmarks.report import again, parser, say, table
from benchmarks.wire import Wire, same_tasks

SMALL = 10_000
WARM = 10_000
#: How often each is measured on both sides, and with how many tasks.
ROUNDS = 5
SUBMITTED = 10_000
STARTED = 5_000
RESTARTS = 3


class Side:
    """One of the daemons, with tasks in the paused queue `parked`."""

    def __init__(self, box: Box, data: dict[str, str]) -> None:
        self.box = box
        self.wire: Wire = box.wire()
        self._parked = {"type": "echo", "queue": "parked", "data": data}
        self._task = {"type": "echo", "queue": "work", "data": data}
        self.wire("pause", queue="parked")

    def warm(self) -> None:
        replies = self.wire.pour(same_tasks(self._task, WARM))
        self.wire.wait(*(f"f{reply['flow']}" for reply in replies))

    def park(self, count: int) -> float:
        """Submit so many tasks that stay queued. Returns tasks a second."""
        frames = same_tasks(self._parked, count)
        begin = time.perf_counter()
        self.wire.pour(frames)
        return count / (time.perf_counter() - begin)

    def fill(self, total: int) -> None:
        """Submit until so many are queued."""
        while (missing := total - self.wire.counts("parked").get("ready", 0)) > 0:
            step = min(missing, 100_000)
            rate = self.park(step)
            if total > SMALL:
                say(
                    f"{total - missing + step:>10,} of {total:,} queued, {rate:,.0f}/s, {self.box.memory()['rss']:.0f} MB"
                )

    def behind_rate(self) -> float:
        """Tasks a second of another queue, from the end of its pause to the last result."""
        before = self.wire.counts("work").get("succeeded", 0)
        self.wire("pause", queue="work")
        self.wire.pour(same_tasks(self._task, STARTED))
        begin = time.perf_counter()
        self.wire("resume", queue="work")
        end, _ = self.wire.until("work", "succeeded", before + STARTED)
        return STARTED / (end - begin)

    def lane_rate(self) -> float:
        """The same of the parked ones themselves: their queue runs until so many have ended."""
        before = self.wire.counts("parked").get("succeeded", 0)
        begin = time.perf_counter()
        self.wire("resume", queue="parked")
        end, ended = self.wire.until("parked", "succeeded", before + STARTED)
        self._park_again()
        return (ended - before) / (end - begin)

    def topped_up_lane_rate(self) -> float:
        self.fill(SMALL)
        return self.lane_rate()

    def restart(self, number: int) -> tuple[float, float]:
        """End it by a signal while everything is ready. Returns seconds from exec to READY=1 and to the first task that runs.

        One more task falls due while the daemon is away, so that an empty queue has something to start, too.
        """
        due = time.time() + 1.0
        task = {"type": "echo", "queue": "first", "run_at": due}
        self.wire("submit", submission=str(uuid.uuid4()), tasks=[task])
        self.wire("resume", queue="parked")
        position = self.wire("subscribe")["next"]
        self.box.end(number)
        time.sleep(max(0.0, due - time.time()) + 0.2)
        begin = self.box.start()
        ready = time.time() - begin
        self.wire = self.box.wire()
        while (first := self._first_start(position, begin)) is None:
            time.sleep(0.02)
        self._park_again()
        return ready, first

    def _first_start(self, position: int, begin: float) -> float | None:
        while True:
            page = self.wire("events", **{"from": position}, topics=["task.running"])
            for event in page["events"]:
                if event["at"] >= begin:
                    return float(event["at"]) - begin
            if page["next"] <= position:
                return None
            position = page["next"]

    def _park_again(self) -> None:
        self.wire("pause", queue="parked")
        while self.wire.counts("parked").get("running", 0):
            time.sleep(0.01)


def turns(name: str, large: Callable[[], float], small: Callable[[], float]) -> list[str]:
    """Measure both sides in turns. Returns a row of the table."""
    rates: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        rates[0].append(large())
        rates[1].append(small())
        say(f"{name}: round {number + 1}: {rates[0][-1]:,.0f}/s, with {SMALL:,} queued {rates[1][-1]:,.0f}/s")
    pairs = [mine / other for mine, other in zip(*rates, strict=True)]
    medians = [f"{statistics.median(side):,.0f}/s" for side in rates]
    return [name, *medians, f"{statistics.median(pairs):.2f}", f"{min(pairs):.2f} to {max(pairs):.2f}"]


def memory_rows(side: Side, empty: dict[str, float], full: dict[str, float]) -> list[list[str]]:
    return [
        [f"memory ({name})", f"{full[name]:.0f} MB", f"{empty[name]:.0f} MB", f"{full[name] - empty[name]:+.0f} MB"]
        for name in ("rss", "anon")
    ]


def measure(arguments: argparse.Namespace) -> None:
    data = {"text": "x" * (arguments.bytes - 7)}  # {"text": …} takes the rest
    with Box(workers=2) as first, Box(workers=2) as second, Box(workers=2) as third:
        large, small, empty = (Side(box, data) for box in (first, second, third))
        say(f"{WARM:,} tasks go through each of three daemons")
        for side in (large, small, empty):
            side.warm()
        before, stored = first.memory(), first.stored()
        small.fill(SMALL)
        large.fill(arguments.tasks)
        after, per_task = first.memory(), (first.stored() - stored) / arguments.tasks
        rates = [
            turns("start, behind", large.behind_rate, small.behind_rate),
            turns("start, same lane", large.lane_rate, small.topped_up_lane_rate),
            turns("submit", lambda: large.park(SUBMITTED), lambda: small.park(SUBMITTED)),
        ]
        worked = first.memory()
        restarts = []
        for name, number in (("restart, clean", signal.SIGTERM), ("restart, kill -9", signal.SIGKILL)):
            times = [(large.restart(number), empty.restart(number)) for _ in range(RESTARTS)]
            for at, what in enumerate(("ready", "first task")):
                mine, other = (statistics.median(pair[side][at] for pair in times) for side in (0, 1))
                ratio = statistics.median(pair[0][at] / pair[1][at] for pair in times)
                restarts.append([f"{name}: {what}", f"{mine:.2f} s", f"{other:.2f} s", f"{ratio:.2f}"])
            say(f"{name}: done")
    print(f"{arguments.tasks:,} tasks of {arguments.bytes} bytes queued; beside it a daemon with {SMALL:,}")
    table(["", "large", "small", "ratio", "of the rounds"], [[*row, ""][:5] for row in rates])
    print("beside a daemon that has nothing queued (memory: the same one before)")
    rows = memory_rows(large, before, after)
    rows.append(
        ["memory (anon), at work", f"{worked['anon']:.0f} MB", "", f"{worked['anon'] - before['anon']:+.0f} MB"]
    )
    table(["", "large", "empty", "difference or ratio"], rows + restarts)
    print(f"disk: {per_task:.0f} bytes for each queued task of {arguments.bytes}")
    again("scale")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--tasks", type=int, default=10_000_000, metavar="N", help="queued (default: %(default)s)")
    options.add_argument("--bytes", type=int, default=300, help="of each task's data (default: %(default)s)")
    measure(options.parse_args())


if __name__ == "__main__":
    main()
