"""The two clocks of the machine. Rooms that decide take `now` as an argument; what calls them reads it here."""

from __future__ import annotations

import time


def wall() -> float:
    """Seconds since the epoch, UTC. It may be set back: for what is stored and shown, never for measuring."""
    return time.time()


def monotonic() -> float:
    """Seconds that only go forward, counted while the machine is awake: for deadlines and durations of this process."""
    return time.monotonic()
