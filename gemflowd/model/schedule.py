"""A schedule: a task that is submitted again and again, by the calendar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

#: What becomes of runs that were due while the daemon was down, or that the clock jumped over.
MISFIRES: Final = ("skip", "once", "all")
#: What becomes of a run whose predecessor has not ended.
OVERLAPS: Final = ("skip", "allow", "queue", "cancel")
#: Largest `misfire_limit`.
MOST_MADE_UP: Final = 100


@dataclass(slots=True)
class Schedule:
    """The row of a schedule, without its task, which is read when it is needed. Times by the wall clock."""

    name: str
    cron: str
    zone: str
    misfire: str
    misfire_limit: int
    overlap: str
    paused: bool
    next_run: float | None  # None: paused, or there is none any more. Only moves forward, but for a person's `resume`
    last_run: float | None  # the moment for which it was due, not that of its start
    last_flow: int | None
    waiting: float | None  # the run that waits for the end of the last one
    fired: int
    skipped: int
    created: float

    def body(self, task: Any) -> dict[str, Any]:
        """As `docs/protocol.md` shows it. `task` as it was given."""
        return {
            "name": self.name,
            "cron": self.cron,
            "zone": self.zone,
            "misfire": self.misfire,
            "misfire_limit": self.misfire_limit,
            "overlap": self.overlap,
            "paused": self.paused,
            "next_run": self.next_run,
            "last_run": self.last_run,
            "last_flow": self.last_flow,
            "fired": self.fired,
            "skipped": self.skipped,
            "created": self.created,
            "task": task,
        }
