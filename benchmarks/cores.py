"""Work for processors: the guide's tables for CPU (3.2 times) and mixed tasks (3.0 times), with as many workers as there are cores.

Beside it the machine's own ceiling: as many bare processes, each of which takes the next task from a common list. What is compared
is seconds; `ratio` is the rate of ours over theirs. Mixed tasks are one half `spin` and one half `nap` (blocking), or
`sleep` in the line with coroutines, which wait beside the computing. The lines with
short tasks say how much of a core is left for work at each length.
"""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

from benchmarks.box import ROOT, Box
from benchmarks.figures import Figure
from benchmarks.machine import cores
from benchmarks.report import ROUNDS, main, say
from gemflowd.handlers.basic import spin

Work = list[tuple[str, float]]  # type and seconds of each task


def cpu(tasks: int, seconds: float) -> Work:
    """Tasks that burn."""
    return [("spin", seconds)] * tasks


def mixed(tasks: int, seconds: float, waits: str = "nap") -> Work:
    """One half burns, one half waits: blocking (`nap`), or as a coroutine (`sleep`)."""
    return [("spin" if number % 2 else waits, seconds) for number in range(tasks)]


def _one(kind: str, seconds: float) -> None:
    if kind == "spin":
        spin({"seconds": seconds}, None)  # type: ignore[arg-type]
    else:
        time.sleep(seconds)


def _process(work: Work, following: Any) -> None:
    while True:
        with following.get_lock():
            number = following.value
            following.value += 1
        if number >= len(work):
            return
        _one(*work[number])


def ceiling(work: Work, processes: int) -> float:
    """Seconds of bare processes, from the first start to the last end."""
    context = multiprocessing.get_context("fork")
    following = context.Value("l", 0)
    begin = time.perf_counter()
    others = [context.Process(target=_process, args=(work, following)) for _ in range(processes)]
    for process in others:
        process.start()
    for process in others:
        process.join()
    return time.perf_counter() - begin


def sequential(work: Work) -> float:
    """Seconds of a tenth of it one after the other, times ten."""
    some = work[: max(2, len(work) // 10)]
    begin = time.perf_counter()
    for kind, seconds in some:
        _one(kind, seconds)
    return (time.perf_counter() - begin) * len(work) / len(some)


def ours(box: Box, work: Work) -> float:
    """Seconds from submission to the last one's end."""
    wire = box.wire()
    begin = time.perf_counter()
    flow = wire.submit([{"type": kind, "data": {"seconds": seconds}} for kind, seconds in work])
    wire.wait(f"f{flow}")
    return time.perf_counter() - begin


def measure(short: bool = False) -> list[Figure]:
    """Rates of both sides in turns, in tasks a second, and how much faster than one after the other."""
    count, figures = cores(), []
    shapes: list[tuple[str, Work, float | None]] = [
        ("CPU tasks of 50 ms", cpu((20 if short else 40) * count, 0.05), 0.95),
        ("mixed tasks of 50 ms", mixed((20 if short else 40) * count, 0.05), 0.95),
        ("mixed tasks of 50 ms, coroutines", mixed((20 if short else 40) * count, 0.05, "sleep"), None),
        ("CPU tasks of 1 ms", cpu((500 if short else 2_000) * count, 0.001), None),
    ]
    if not short:
        shapes += [
            ("CPU tasks of 1 s", cpu(4 * count, 1.0), 0.95),
            ("CPU tasks of 10 ms", cpu(200 * count, 0.01), None),
        ]
    with Box(workers=count, handlers=["benchmarks.sleepy"], handler_path=[str(ROOT)]) as box:
        ours(box, cpu(2 * count, 0.01))  # the workers are there
        for name, work, least in shapes:
            mine: list[float] = []
            bare: list[float] = []
            faster: list[float] = []
            for _ in range(ROUNDS):
                taken = ours(box, work)
                mine.append(len(work) / taken)
                bare.append(len(work) / ceiling(work, count))
                faster.append(sequential(work) / taken)
            say(f"{name}: {', '.join(f'{a / b:.2f}' for a, b in zip(mine, bare, strict=True))} of the ceiling")
            times = sorted(faster)[len(faster) // 2]
            figures.append(
                Figure(
                    f"{len(work):,} {name}",
                    mine,
                    "/s",
                    f"{count} bare processes",
                    bare,
                    least=least,
                    settings=f"{count} workers; {times:.2f} times as fast as one after the other",
                )
            )
    return figures


if __name__ == "__main__":
    main(__doc__, measure, "cores")
