"""What is measured by `gemflowctl benchmark`, and what would be possible."""

from __future__ import annotations

import pytest

from gemflowctl.benchmark.kinds import KINDS, Kind, Machine, at_once, ceiling, outcome, part_of, quantile, tasks_of

MACHINE = Machine(coroutine=20, blocking=2, cores=4)


def test_mixed_waits_and_burns_in_turn() -> None:
    assert [task["type"] for task in tasks_of("mixed", 5, 0.1)] == ["sleep", "spin", "sleep", "spin", "sleep"]
    assert all(len(tasks_of(kind, 7, 0.1)) == 7 for kind in KINDS)


@pytest.mark.parametrize(
    ("kind", "wanted", "width"), [("io", 8, 8), ("io", 50, 20), ("cpu", 8, 2), ("mixed", 30, 22), ("noop", 256, 256)]
)
def test_no_more_at_a_time_than_there_are_slots(kind: Kind, wanted: int, width: int) -> None:
    assert at_once(kind, wanted, MACHINE) == width


@pytest.mark.parametrize(
    ("kind", "count", "width", "machine", "most"),
    [
        ("io", 50, 8, MACHINE, 50 / 7),  # seven rounds, the last of two
        ("io", 4, 8, MACHINE, 4.0),
        ("cpu", 50, 2, MACHINE, 2.0),
        ("cpu", 50, 2, Machine(20, 2, 1), 1.0),  # one processor
        ("mixed", 50, 8, MACHINE, 50 / 13),  # 25 burn on two slots
        ("mixed", 50, 2, MACHINE, 2.0),
        ("noop", 50, 2, MACHINE, None),
    ],
)
def test_the_ceiling_counts_rounds(kind: Kind, count: int, width: int, machine: Machine, most: float | None) -> None:
    assert ceiling(kind, count, width, machine) == most


def test_quantiles_are_values_that_occurred() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert (quantile(ordered, 0.5), quantile(ordered, 0.95)) == (50.0, 95.0)
    assert quantile([3.0], 0.5) == quantile([3.0], 0.95) == 3.0


def test_the_figures_are_those_that_the_daemon_recorded() -> None:
    one_by_one = [{"created": 10.0, "started": 10.0 + n, "finished": 11.0 + n} for n in range(4)]
    together = [{"created": 20.0, "started": 20.0, "finished": 21.0 + n / 10} for n in range(4)]
    found = outcome("io", 4, 1.0, 8, MACHINE, part_of(one_by_one), part_of(together))
    assert (found["sequential_seconds"], found["parallel_seconds"], found["speedup"]) == (4.0, 1.3, 3.077)
    assert found["run"] == found["latency"] == {"p50": 1.1, "p95": 1.3}
    assert found["tasks_per_second"] == 3.1
