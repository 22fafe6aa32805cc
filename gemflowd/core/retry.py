"""How long a task waits before its next try."""

from __future__ import annotations

import random
from typing import Final

FACTOR: Final = 2.0
CAP: Final = 300.0  # seconds


def backoff(base: float, tries: int, rng: random.Random) -> float:
    """Seconds before the next try after `tries` charged ones: exponential with full jitter, so that a herd spreads out."""
    return rng.uniform(0.0, min(CAP, base * FACTOR ** min(tries - 1, 32)))
