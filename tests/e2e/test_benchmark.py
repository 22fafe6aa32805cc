"""`gemflowctl benchmark` on a real daemon: its figures, and that nothing of it is left, however it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.ctl import Ctl
from helpers.daemon import Daemon, environment, running
from helpers.raw import Raw


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(workers=2) as daemon:
        yield daemon


@pytest.fixture
def ctl(daemon: Daemon, tmp_path: Path) -> Ctl:
    return Ctl(daemon.endpoint, tmp_path)


def nothing_left(daemon: Daemon) -> bool:
    with Raw(daemon.endpoint) as ask:
        return not any(ask("status")["tasks"].values()) and not ask("queues")["queues"] and not ask("list")["tasks"]


def start(daemon: Daemon) -> subprocess.Popen[str]:
    """A benchmark of which a task runs, and which would take two minutes."""
    tasks = daemon.subscriber("task.running")
    process = subprocess.Popen(
        [sys.executable, "-m", "gemflowctl", "benchmark", "--kind", "io", "--task-time", "2s"],
        env=environment(GEMFLOW_ENDPOINT=daemon.endpoint),
        stderr=subprocess.PIPE,
        text=True,
    )
    tasks.message()
    return process


def test_the_guide_s_table(daemon: Daemon, ctl: Ctl) -> None:
    quick = ("-t", "6", "-w", "3", "--task-time", "5ms")
    table = ctl("parallel", "benchmark", *quick)
    heading, *rows = table.stdout.splitlines()
    assert heading.split() == ["TASK", "TYPE", "SEQUENTIAL", "PARALLEL", "SPEED-UP", "CEILING", "P50", "P95", "TASKS/S"]
    assert [row.split()[0] for row in rows] == ["I/O-bound", "CPU-bound", "mixed"]
    assert "CPU-bound: 2 at a time and not 3" in table.stderr
    io, noop = ctl.lines("benchmark", *quick, "--kind", "io", "--kind", "noop")
    assert (io["kind"], io["tasks"], io["workers"], io["at_once"], io["ceiling"]) == ("io", 6, 3, 3, 3.0)
    assert io["sequential_seconds"] >= 0.03
    assert io["parallel_seconds"] >= 0.01
    assert 0.005 <= io["run"]["p50"] <= io["run"]["p95"] <= io["latency"]["p95"]
    assert (noop["kind"], noop["ceiling"], noop["task_seconds"]) == ("noop", None, 0.0)
    assert nothing_left(daemon)


def test_one_that_is_ended_leaves_nothing(daemon: Daemon) -> None:
    with start(daemon) as process:
        process.terminate()  # Ctrl-C goes the same way
        assert process.wait(30) == 130
    assert nothing_left(daemon)


def test_what_a_killed_one_left_is_removed_by_the_next(daemon: Daemon, ctl: Ctl) -> None:
    with start(daemon) as process:
        assert "another benchmark is running" in ctl("benchmark", status=1).stderr
        process.kill()
    assert [queue["queue"] for queue in daemon.client()("queues")["queues"]] == ["gemflowctl-benchmark"]
    ctl("benchmark", "--kind", "noop", "-t", "1")
    assert nothing_left(daemon)


def test_it_is_refused_where_nothing_starts_and_gives_up_when_that_comes_in_between(daemon: Daemon, ctl: Ctl) -> None:
    ask = daemon.client()
    with start(daemon) as process:
        ask("drain")
        assert process.stderr is not None
        assert "starts nothing" in process.stderr.read()
        assert process.wait(30) == 1
    assert nothing_left(daemon)
    assert "drain --off" in ctl("benchmark", status=1).stderr
    ask("drain", off=True)
