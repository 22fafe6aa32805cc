"""20,000 no-op tasks, and one at a time: `python -m benchmarks.throughput [TASKS]` (or `make bench`).

Two blocking workers, fsync on, every start, attempt, result and event recorded. Beside it in the same run: the same number of
no-op calls through `ProcessPoolExecutor.submit` with two processes, which keeps nothing, and a bare request to the daemon.
"""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from benchmarks.running import daemon
from gemflowctl import Client

RUNS = 3
TRIPS = 300


def noop(value: int) -> int:
    return value


def pool_rate(tasks: int) -> float:
    with ProcessPoolExecutor(2) as pool:
        pool.submit(noop, 0).result()
        begin = time.perf_counter()
        for future in [pool.submit(noop, number) for number in range(tasks)]:
            future.result()
        return tasks / (time.perf_counter() - begin)


def gemflow_rate(gemflow: Client, tasks: int) -> float:
    submitted = [{"type": "echo", "data": {"n": number}} for number in range(tasks)]
    begin = time.perf_counter()
    flow = gemflow.submit_batch(submitted)
    flow.wait()
    got = [result.value["n"] for result in flow.results()]
    seconds = time.perf_counter() - begin
    assert got == list(range(tasks)), "every result, in order"
    return tasks / seconds


def trips(gemflow: Client) -> tuple[list[float], list[float]]:
    pings, tasks = [], []
    for _ in range(TRIPS):
        begin = time.perf_counter()
        gemflow.ping()
        pings.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        gemflow.submit("echo", data={}).result()
        tasks.append(time.perf_counter() - begin)
    return pings, tasks


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    ours, theirs = [], []
    with daemon("--workers", "2") as (endpoint, _), Client(endpoint) as gemflow:
        for _ in range(RUNS):
            ours.append(gemflow_rate(gemflow, tasks))
            theirs.append(pool_rate(tasks))
        pings, singles = trips(gemflow)
    print(f"{tasks} no-op tasks, one submission to last result at the client, median of {RUNS}")
    print(f"  gemflow, 2 workers, fsync        {statistics.median(ours):>8.0f} tasks/s")
    print(f"  ProcessPoolExecutor, in memory   {statistics.median(theirs):>8.0f} tasks/s")
    print(
        f"  ratio                            {statistics.median(a / b for a, b in zip(ours, theirs, strict=True)):>8.2f}"
    )
    print(f"one task at a time, submit to result, {TRIPS} times")
    p50, p99 = statistics.median(singles), statistics.quantiles(singles, n=100)[98]
    print(f"  p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms; a bare ping p50 {statistics.median(pings) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
