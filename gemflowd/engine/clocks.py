"""The engine's two clocks: one for dates, one for durations that outlive a restart.

Wall: what people mean by a date; it may be set forward or back at any moment.
Steady: seconds on the scale of the epoch that pass as the monotonic clock does. It begins as the wall clock, goes on after a
restart from where it was (with what the wall clock says has passed meanwhile), and no setting of the clock moves it.
"""

from __future__ import annotations

from collections.abc import Callable


class Clocks:
    """
    Args:
        wall: seconds since the epoch.
        monotonic: seconds that only go forward while this process lives.
    """

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def steady(self) -> float:
        return self._monotonic() + self._offset

    def resume(self, steady: float, wall: float) -> None:
        """Go on from a pair of readings that an earlier daemon stored in one moment."""
        self._offset = steady + max(0.0, self.wall() - wall) - self._monotonic()
