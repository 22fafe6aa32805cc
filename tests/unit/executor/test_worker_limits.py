"""When a worker is replaced, how many coroutine workers there are, and the caps: figures in, a decision out."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from gemflowd.executor.base import WorkerLimits
from gemflowd.executor.local.recycling import MB, cap_of, coroutine_workers, jitter, look_after, reason

NONE = WorkerLimits(memory_mb=500, max_tasks=0, max_age=0.0, min_life=10.0)


def why(limits: WorkerLimits, factor: float = 1.0, **how: float) -> str | None:
    figures = {"done": 0, "age": 100.0, "rss": 0, "cap": 500 * MB, **how}
    return reason(limits, factor, **figures)  # type: ignore[arg-type]


def test_without_limits_only_memory_counts() -> None:
    assert why(NONE, done=10**9, age=1e9) is None
    assert why(NONE, rss=400 * MB) is None
    assert why(NONE, rss=400 * MB + 1) == "400 MB after a task; its cap is 500 MB"


def test_tasks_and_age_with_jitter() -> None:
    assert why(replace(NONE, max_tasks=100), done=99) is None
    assert why(replace(NONE, max_tasks=100), done=100) == "100 tasks"
    assert why(replace(NONE, max_tasks=100), 1.1, done=109) is None
    assert why(replace(NONE, max_age=90.0), age=89.0) is None
    assert why(replace(NONE, max_age=90.0), age=90.0) == "90 s old"
    assert why(replace(NONE, max_age=90.0), 1.1, age=98.0) is None


def test_never_before_the_minimum_life() -> None:
    limits = replace(NONE, max_tasks=1, max_age=1.0)
    assert why(limits, done=5, age=9.9, rss=10**12) is None
    assert why(limits, done=5, age=10.0) is not None


def test_an_idle_worker_is_looked_at_when_its_age_may_matter() -> None:
    assert look_after(NONE, 1.0) is None
    assert look_after(replace(NONE, max_age=100.0), 1.1) == pytest.approx(110.0)
    assert look_after(replace(NONE, max_age=1.0), 1.0) == 10.0


def test_jitter_is_within_a_tenth() -> None:
    factors = [jitter(random.Random(seed)) for seed in range(200)]
    assert 0.9 <= min(factors) < 0.95
    assert 1.05 < max(factors) <= 1.1


def test_a_cap_is_never_below_what_a_worker_has_before_its_first_task() -> None:
    assert cap_of(NONE, 100 * MB) == 500 * MB
    assert cap_of(NONE, 480 * MB) == 600 * MB


@pytest.mark.parametrize(
    ("slots", "used", "have", "wanted"),
    [
        (2000, 0, 0, 1),
        (2000, 199, 1, 1),
        (2000, 200, 1, 4),
        (1000, 500, 2, 4),
        (2000, 500, 2, 8),
        (2000, 2000, 8, 8),
        (2000, 400, 8, 3),
        (2000, 0, 8, 1),
        (100, 100, 1, 1),
    ],
)
def test_coroutine_workers_multiply_with_use_and_shrink_without(slots: int, used: int, have: int, wanted: int) -> None:
    assert coroutine_workers(slots, used, have, 250 if slots >= 250 else slots) == wanted
