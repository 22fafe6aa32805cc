"""Backoff: exponential, with full jitter, capped."""

import random

import pytest

from gemflowd.core.retry import CAP, backoff


@pytest.mark.parametrize(
    ("tries", "most"), [(1, 1.0), (2, 2.0), (3, 4.0), (5, 16.0), (9, 256.0), (10, CAP), (10_000, CAP)]
)
def test_the_bound_doubles_up_to_the_cap(tries: int, most: float):
    rng = random.Random(tries)
    waits = [backoff(1.0, tries, rng) for _ in range(2_000)]
    assert 0.0 <= min(waits) < most * 0.01, "full jitter begins at nothing"
    assert most * 0.99 < max(waits) <= most


def test_the_base_scales_it():
    assert max(backoff(0.5, 2, random.Random(1)) for _ in range(1_000)) <= 1.0
    assert backoff(0.0, 5, random.Random(1)) == 0.0
