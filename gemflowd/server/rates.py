"""How fast tasks end, and how long they take: a window of seconds in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from gemflowd.model.effects import TaskEnded

#: Seconds over which the throughput and the mean running time are taken (docs/protocol.md, `stats`).
THROUGHPUT_SECONDS: Final = 10
MEAN_SECONDS: Final = 60


class Rates:
    """One bucket a second: (second, tasks that ended, tasks that had run, their seconds)."""

    def __init__(self) -> None:
        self._buckets: deque[list[float]] = deque()

    def note(self, ended: Sequence[TaskEnded], now: float) -> None:
        if not ended:
            return
        second = int(now)
        if not self._buckets or self._buckets[-1][0] != second:
            self._buckets.append([second, 0, 0, 0.0])
            while self._buckets[0][0] < second - MEAN_SECONDS:
                self._buckets.popleft()
        bucket = self._buckets[-1]
        bucket[1] += len(ended)
        for task in ended:
            if task.seconds > 0:
                bucket[2] += 1
                bucket[3] += task.seconds

    def snapshot(self, now: float) -> dict[str, Any]:
        recent = [bucket for bucket in self._buckets if bucket[0] >= now - MEAN_SECONDS]
        count = sum(bucket[2] for bucket in recent)
        ended = sum(bucket[1] for bucket in recent if bucket[0] >= now - THROUGHPUT_SECONDS)
        return {
            "average_seconds": sum(bucket[3] for bucket in recent) / count if count else None,
            "throughput": ended / THROUGHPUT_SECONDS,
        }
