"""Waiting tasks: the guide's table for I/O (400 × sleep 0.1 with 4 workers, 3.3 times as fast as one after the other), and more slots.

`workers × batch_size` coroutines run at a time, so 4 workers with batch size 1 can be 4 times as fast. The last line is the same
with a handler that blocks, one in each of 4 workers. Beside it: the same tasks one after the other without us.
"""

from __future__ import annotations

import time

from benchmarks.box import ROOT, Box
from benchmarks.figures import Figure
from benchmarks.report import ROUNDS, main, say

SECONDS = 0.1
#: workers, batch size and tasks.
SHAPES = ((4, 1, 400), (4, 5, 800), (4, 50, 4_000))


def sequential(tasks: int) -> float:
    """Seconds of so many one after the other; measured with 5, since nothing about it depends on how many there are."""
    begin = time.perf_counter()
    for _ in range(5):
        time.sleep(SECONDS)
    return (time.perf_counter() - begin) / 5 * tasks


def parallel(box: Box, kind: str, tasks: int) -> float:
    """Seconds from submission to the last one's end."""
    wire = box.wire()
    begin = time.perf_counter()
    flow = wire.submit([{"type": kind, "data": {"seconds": SECONDS}}] * tasks)
    wire.wait(f"f{flow}")
    return time.perf_counter() - begin


def measure(short: bool = False) -> list[Figure]:
    """Times as fast as one after the other."""
    figures = []
    shapes = [(*shape, "sleep") for shape in (SHAPES[::2] if short else SHAPES)]
    for workers, batch, all_tasks, kind in [*shapes, (4, 1, 400, "nap")]:
        slots = workers * batch
        tasks = all_tasks // 4 if short else all_tasks
        faster: list[float] = []
        with Box(workers=workers, batch_size=batch, handlers=["benchmarks.sleepy"], handler_path=[str(ROOT)]) as box:
            parallel(box, kind, slots * 2)  # the workers are there
            faster += [sequential(tasks) / parallel(box, kind, tasks) for _ in range(ROUNDS)]
        say(f"{kind} in {slots} slots: {', '.join(f'{value:.2f}' for value in faster)} times")
        name = f"{tasks:,} × sleep {SECONDS:g}, {workers} workers × {batch}" + (" (blocking)" if kind == "nap" else "")
        figures.append(Figure(name, faster, "×", "one after the other is 1", least=3.9 if slots == 4 else 0.9 * slots))
    return figures


if __name__ == "__main__":
    main(__doc__, measure, "sleeps")
