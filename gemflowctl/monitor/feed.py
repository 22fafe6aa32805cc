"""What the monitor knows: the newest figures, their recent past, the last events, and whether the daemon is there. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from gemflowctl.steps import Body

#: What the monitor subscribes to. Not `task.ready` and the like: they would only drive out what matters.
TOPICS: Final = (
    "stats",
    "task.running",
    "task.succeeded",
    "task.failed",
    "task.cancelled",
    "task.skipped",
    "task.quarantined",
    "flow.",
    "worker",
    "limit",
)
#: Figures come once a second; after so many seconds without any they are stale.
STALE: Final = 3.0
_HISTORY: Final = 300
_EVENTS: Final = 100


@dataclass(slots=True)
class Feed:
    """Args: `endpoint` is shown; `now` is when it begins, in monotonic seconds.

    Attributes:
        stats: the newest body of `stats`, None before the first.
        throughput, active: their values of the last minutes, one a second, the newest last.
        events: the last events, the newest last.
        lost: how many events were dropped on the way to us, for this run of the daemon.
        state: `live`, `silent` (it is there but sends no figures) or `disconnected`.
    """

    endpoint: str
    now: float
    stats: Body | None = None
    throughput: deque[float] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    active: deque[float] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    events: deque[Body] = field(default_factory=lambda: deque(maxlen=_EVENTS))
    lost: int = 0
    state: str = "live"
    _heard: float = 0.0
    _epoch: object = None
    _expected: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._heard = self.now

    def figures(self, stats: Body, now: float) -> None:
        """Take the body of `stats`."""
        self.stats = stats
        self.throughput.append(stats.get("throughput") or 0.0)
        self.active.append(stats.get("active") or 0)
        self._heard = now
        self.state = "live"

    def message(self, topic: str, message: Body, now: float) -> None:
        """Take a message of the events socket."""
        if message.get("epoch") != self._epoch:
            self._epoch = message.get("epoch")
            self._expected.clear()
            self.lost = 0
        events = message["events"]
        if topic == "stats":
            for stats in events:
                self.figures(stats, now)
            return
        first = message.get("topic_first")
        if isinstance(first, int):
            self.lost += max(0, first - self._expected.get(topic, first))
            self._expected[topic] = first + len(events)
        self.events.extend(events)

    def stale(self, now: float) -> bool:
        """Whether it is time to look whether the daemon is still there."""
        return now - self._heard > STALE

    def looked(self, there: bool) -> None:
        """What that look found."""
        self.state = "silent" if there else "disconnected"
