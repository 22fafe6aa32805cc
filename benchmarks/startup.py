"""How long `gemflowctl version` and `gemflowd run` take to start: `python -m benchmarks.startup` (or `make bench`).

Targets: under 100 ms and under 1 s. A bare `python -c pass` in the same run says what the machine is worth at the moment.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.running import daemon

RUNS = 9


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    bare: list[float] = []
    version: list[float] = []
    ready: list[float] = []
    for _ in range(RUNS):
        bare.append(seconds([sys.executable, "-c", "pass"]))
        version.append(seconds([sys.executable, "-m", "gemflowctl", "version"]))
    for _ in range(3):
        with daemon() as (_, first):
            ready.append(first)
    base = statistics.median(bare)
    print(f"{'':<34}{'median':>9}{'best':>9}{'of a bare python':>18}")
    for name, times in (
        ("python -c pass", bare),
        ("gemflowctl version", version),
        ("gemflowd run, until READY=1", ready),
    ):
        print(
            f"{name:<34}{statistics.median(times) * 1e3:>6.0f} ms{min(times) * 1e3:>6.0f} ms{statistics.median(times) / base:>17.1f}×"
        )


if __name__ == "__main__":
    main()
