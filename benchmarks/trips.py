"""The round trip of a no-op on an idle daemon: `submit(…).result()` of the Python client, one after the other.

Beside it what it is made of at least, each measured alone in the same round: two commits with fsync (of the submission with its
start, and of the outcome), two hops through ipc:// and two through a socketpair.
"""

from __future__ import annotations

import statistics
import time

from benchmarks.bare import client_trips, commits, worker_trips
from benchmarks.figures import Figure
from benchmarks.report import ROUNDS, main, say
from benchmarks.running import daemon
from gemflowctl import Client

TRIPS = 500
#: Seconds between two, so that the daemon is idle at the beginning of each.
PAUSE = 0.002


def trips(gemflow: Client, times: int) -> list[float]:
    """Seconds of each."""
    taken = []
    for _ in range(times):
        time.sleep(PAUSE)
        begin = time.perf_counter()
        gemflow.submit("echo", data={}).result()
        taken.append(time.perf_counter() - begin)
    return taken


def floor(times: int) -> float:
    """Seconds of two commits and four hops, by their medians."""
    two_hops = (client_trips(times), worker_trips(times))
    return 2 * statistics.median(commits(times)) + sum(statistics.median(taken) for taken in two_hops)


def measure(short: bool = False) -> list[Figure]:
    """Both in turns."""
    times = TRIPS // 3 if short else TRIPS
    p50, p99, least, pings = [], [], [], []
    with daemon("--workers", "2") as (endpoint, _), Client(endpoint) as gemflow:
        trips(gemflow, 50)
        for number in range(ROUNDS):
            taken = trips(gemflow, times)
            p50.append(statistics.median(taken) * 1e3)
            p99.append(statistics.quantiles(taken, n=100)[98] * 1e3)
            least.append(floor(times) * 1e3)
            pings.append(statistics.median(_pings(gemflow, times)) * 1e3)
            say(
                f"round trip, round {number + 1}: p50 {p50[-1]:.2f} ms, p99 {p99[-1]:.2f} ms, its parts {least[-1]:.2f} ms"
            )
    return [
        Figure("round trip of a no-op, p50", p50, "ms", "2 commits + 4 hops", least, most=2.0, settings=_SETTINGS),
        Figure("round trip of a no-op, p99", p99, "ms", most=10.0),
        Figure("round trip of a no-op, p50", p50, "ms", "ping", pings),
    ]


def _pings(gemflow: Client, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        gemflow.ping()
        taken.append(time.perf_counter() - begin)
    return taken


_SETTINGS = f"submit(…).result(), {PAUSE * 1e3:g} ms apart; 2 workers"

if __name__ == "__main__":
    main(__doc__, measure, "trips")
