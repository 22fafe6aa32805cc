"""20,000 no-op tasks, one submission to the last result seen by the client, against `ProcessPoolExecutor.submit`.

Two blocking workers, fsync on, every start, attempt, result and event recorded. Beside it in turns: the same number of
no-op calls with two processes, which keep nothing. Another line waits with `as_completed`.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor

from benchmarks.figures import Figure
from benchmarks.report import ROUNDS, main, say
from benchmarks.running import daemon
from gemflowctl import Client

TASKS = 20_000
#: Tasks that go through both sides first: workers are started, plans and caches are filled.
WARM = 2_000


def noop(value: int) -> int:
    """What the other side runs."""
    return value


def pool_rate(pool: ProcessPoolExecutor, tasks: int) -> float:
    """Calls a second through a pool that runs already."""
    begin = time.perf_counter()
    for future in [pool.submit(noop, number) for number in range(tasks)]:
        future.result()
    return tasks / (time.perf_counter() - begin)


def gemflow_rate(gemflow: Client, tasks: int, *, stream: bool = False, completed: bool = False) -> float:
    """Tasks a second.

    Args:
        stream: what has arrived runs before the rest has.
        completed: take results as they come, instead of all in order at the end.
    """
    submitted = [{"type": "echo", "data": {"n": number}} for number in range(tasks)]
    begin = time.perf_counter()
    flow = gemflow.submit_batch(submitted, stream=stream)
    got = [result.value["n"] for result in (flow.as_completed() if completed else flow.results())]
    seconds = time.perf_counter() - begin
    assert sorted(got) == list(range(tasks)), "every result, once"
    return tasks / seconds


def measure(short: bool = False) -> list[Figure]:
    """Rates of both sides, in turns."""
    tasks = TASKS // 2 if short else TASKS
    ours: dict[str, list[float]] = {"whole": [], "stream": [], "completed": []}
    theirs: list[float] = []
    with daemon("--workers", "2") as (endpoint, _), Client(endpoint) as gemflow, ProcessPoolExecutor(2) as pool:
        gemflow_rate(gemflow, WARM)
        pool_rate(pool, WARM)
        for number in range(ROUNDS):
            ours["whole"].append(gemflow_rate(gemflow, tasks))
            theirs.append(pool_rate(pool, tasks))
            ours["stream"].append(gemflow_rate(gemflow, tasks, stream=True))
            ours["completed"].append(gemflow_rate(gemflow, tasks, stream=True, completed=True))
            say(
                f"no-op tasks, round {number + 1}: {ours['whole'][-1]:,.0f}/s, streamed {ours['stream'][-1]:,.0f}/s, "
                f"as completed {ours['completed'][-1]:,.0f}/s; ProcessPoolExecutor {theirs[-1]:,.0f}/s"
            )
    best = max(ours["whole"], ours["stream"], key=lambda rates: sorted(rates)[len(rates) // 2])
    name = f"{tasks:,} no-op tasks"
    return [
        Figure(
            name,
            best,
            "/s",
            "ProcessPoolExecutor.submit",
            theirs,
            least=2.0,
            settings="2 workers; the better of one flow stored as a whole and one that streams, then results(). "
            "The other: 2 processes, in memory",
        ),
        Figure(f"{name}, absolute (idle cores)", best, "/s", least=30_000),
        Figure(f"{name}, stored as a whole", ours["whole"], "/s", "streaming", ours["stream"]),
        Figure(f"{name}, as_completed()", ours["completed"], "/s", "results()", ours["stream"]),
    ]


if __name__ == "__main__":
    main(__doc__, measure, "throughput")
