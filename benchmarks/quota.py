"""A quota in real time: how near does the ledger come to what the quota allows, and how often is it answered 429?

--calls calls of --latency seconds against the stand-in, which lets --quota of them through in any --window seconds and answers 429 to
the rest, with RetryInfo. The ideal is what nobody can beat: a full quota at the start of each window, and the last call's latency.

Each number of --workers runs three times: the limit is `known` (set before), `learned` (nothing is known; the first 429 says which quota
it is) and `found` (nothing is known and the 429s name no quota, only when to come back). Lost are calls that did not succeed. A worker
count is that of the setting `workers`; with --batch-size it makes the slots, in as many processes as they need.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.box import Box
from benchmarks.report import again, parser, say, table

MODEL = "bench"
KINDS = ("known", "learned", "found")


class StandIn:
    """`gemflowd stand-in` with a quota, as a process of its own; its log says what it was asked."""

    def __init__(self, directory: Path, arguments: argparse.Namespace, *, details: bool) -> None:
        self.log = directory / "stand-in.log"
        ready, theirs = os.pipe()
        options = [f"--quota={arguments.quota}", f"--window={arguments.window}", f"--latency={arguments.latency}"]
        if not details:
            options.append("--no-quota-details")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gemflowd", "stand-in", f"--ready-fd={theirs}", f"--log-file={self.log}", *options],
            pass_fds=(theirs,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(theirs)
        with os.fdopen(ready) as said:
            if not select.select([said], [], [], 60)[0]:
                raise RuntimeError("the stand-in did not start")
            self.url = said.readline().split()[-1]

    def statuses(self) -> list[int]:
        lines = self.log.read_text("utf-8").splitlines() if self.log.exists() else []
        return [json.loads(line)["status"] for line in lines]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)


def ideal(arguments: argparse.Namespace) -> float:
    return float((arguments.calls - 1) // arguments.quota * arguments.window + arguments.latency)


def measure_one(arguments: argparse.Namespace, workers: int, kind: str) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="gf-bench-") as name:
        directory = Path(name)
        key = directory / "key"
        key.write_text("none-is-needed")
        stand_in = StandIn(directory, arguments, details=kind != "found")
        settings = {"gemini_endpoint": stand_in.url, "gemini_api_key_file": key, "batch_size": arguments.batch_size}
        try:
            with Box(workers=workers, **settings) as box:
                return run(arguments, box, stand_in, workers, kind)
        finally:
            stand_in.close()


def run(arguments: argparse.Namespace, box: Box, stand_in: StandIn, workers: int, kind: str) -> list[str]:
    wire = box.wire()
    # The workers are up, and have made a connection, before anything is measured.
    warm = [{"type": "gemini", "data": {"prompt": f"Warm up {n}.", "model": "warm"}} for n in range(workers)]
    wire.wait(f"f{wire.submit(warm)}")
    before = len(stand_in.statuses())
    if kind == "known":
        wire("limits", limit=f"gemini:{MODEL}", set={"requests": arguments.quota, "per": arguments.window})
    calls = [{"type": "gemini", "data": {"prompt": f"Call {n}.", "model": MODEL}} for n in range(arguments.calls)]
    begin = time.perf_counter()
    flow = wire.submit(calls)
    wire.wait(f"f{flow}")
    took = time.perf_counter() - begin
    tasks = wire("status", refs=[f"f{flow}"])["items"][0]["tasks"]
    lost = arguments.calls - tasks.get("succeeded", 0)
    asked = stand_in.statuses()[before:]
    refused = asked.count(429)
    best = ideal(arguments)
    say(f"{workers} workers, {kind}: {took:.2f} s, {refused} of {len(asked)} calls answered 429, {lost} lost")
    return [
        kind, f"{workers}", f"{workers * arguments.batch_size}", f"{took:.2f} s", f"{took / best:.3f}",
        f"{len(asked)}", f"{refused}", f"{refused / max(1, len(asked)):.1%}", f"{lost}",
    ]  # fmt: skip


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--calls", type=int, default=400, help="default: %(default)s")
    options.add_argument("--quota", type=int, default=100, help="calls in any window (default: %(default)s)")
    options.add_argument("--window", type=float, default=10.0, help="seconds (default: %(default)s)")
    options.add_argument("--latency", type=float, default=0.5, help="seconds of one call (default: %(default)s)")
    options.add_argument("--workers", nargs="+", type=int, default=[1, 8], help="default: 1 8")
    options.add_argument("--batch-size", type=int, default=100, help="slots per worker (default: %(default)s)")
    options.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="default: all")
    arguments = options.parse_args()
    rows = [measure_one(arguments, workers, kind) for kind in arguments.kinds for workers in arguments.workers]
    quota = f"{arguments.quota} in any {arguments.window:g} s"
    print(f"{arguments.calls} calls of {arguments.latency:g} s, {quota}; ideal {ideal(arguments):.2f} s")
    table(["limit", "workers", "slots", "wall", "of the ideal", "calls", "429s", "share", "lost"], rows)
    again("quota")


if __name__ == "__main__":
    main()
