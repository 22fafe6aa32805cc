"""Events: what happened, with a number. Stored as one blob per turn, published per topic."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

TASK_TOPIC = "task."
FLOW_TOPIC = "flow."
WORKER_TOPIC = "worker"
LIMIT_TOPIC = "limit"
STATS_TOPIC = "stats"
LOG_TOPIC = "log."
PROGRESS_TOPIC = "progress."
QUEUE_TOPIC = "queue"
MEMORY_TOPIC = "memory"
SCHEDULE_TOPIC = "schedule"
BUDGET_TOPIC = "budget"


class Event(NamedTuple):
    """One event; `fields` are those of `docs/protocol.md` without `seq`, `at` and `topic`."""

    topic: str
    fields: dict[str, Any]


_TOPIC = attrgetter("topic")


@dataclass(slots=True)
class EventBatch:
    """The events of one turn, in order: event i has the number `first + i`."""

    first: int
    at: float
    events: list[Event]
    ordinals: dict[str, int]  # per topic: how many events it had before this batch
    ordinals_after: dict[str, int] = field(init=False)  # and once these have happened

    def __post_init__(self) -> None:
        after = Counter(self.ordinals)
        after.update(map(_TOPIC, self.events))
        self.ordinals_after = dict(after)

    def on_wire(self, index: int) -> dict[str, Any]:
        event = self.events[index]
        return {"seq": self.first + index, "at": self.at, "topic": event.topic, **event.fields}
