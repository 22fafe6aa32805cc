"""Which ready task comes next: a small window of each lane in memory, the order itself is the store's index.

A window holds the first ready tasks of its lane in order. What lies behind its bound is known only to the store, so a
task that becomes ready behind the bound is not remembered here at all: a million of them cost nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final, Protocol

from gemflowd.model.lane import Lane
from gemflowd.model.task import Task

#: (-urgency, tag, number): the order inside a lane, and between lanes of the same kind of worker.
Key = tuple[int, float, int]

WINDOW: Final = 1024
_LAST: Final[Key] = (2**31, float("inf"), 2**63)


def key_of(task: Task, lane: Lane) -> Key:
    return (-task.urgency, task.tag + lane.shift, task.number)


class Window:
    """The first ready tasks of one lane. Unknown until it is filled from the store."""

    __slots__ = ("_bound", "_heap")

    def __init__(self) -> None:
        self._heap: list[Key] = []
        self._bound: Key | None = None  # everything up to here is in the heap; None: nothing is known

    @property
    def must_fill(self) -> bool:
        """Whether the store may have ready tasks that the window, being empty, doesn't know."""
        return not self._heap and self._bound != _LAST

    def fill(self, keys: list[Key], bound: Key | None) -> None:
        """Take what the store has, in order. `bound`: the last key that was read, None when there are no more."""
        self._bound = _LAST if bound is None else bound
        self._heap = keys

    def push(self, key: Key) -> None:
        """A task became ready. The same key may be pushed once only."""
        if self._bound is not None and key <= self._bound:
            heapq.heappush(self._heap, key)
            if len(self._heap) > 4 * WINDOW:
                self._heap = heapq.nsmallest(WINDOW, self._heap)
                self._bound = self._heap[-1]

    def __len__(self) -> int:
        """How many it knows; the store may have more."""
        return len(self._heap)

    def head(self) -> Key | None:
        return self._heap[0] if self._heap else None

    def pop(self) -> Key:
        return heapq.heappop(self._heap)


class Quota(Protocol):
    """What limits how many tasks of a lane may be taken (`core.limits.Room`)."""

    def take(self, lane: int) -> bool:
        """Take one of the lane's; False when there is none left."""
        ...


def pick(windows: dict[int, Window], lanes: Iterable[int], limit: int, quota: Quota) -> list[tuple[int, Key]]:
    """Take up to `limit` tasks over several lanes, in order. Stops early when a window runs empty and must be filled.

    Returns:
        (lane, key) of each task taken.
    """
    heads = [(head, lane) for lane in lanes if (head := windows[lane].head()) is not None]
    heapq.heapify(heads)
    taken: list[tuple[int, Key]] = []
    while heads and len(taken) < limit:
        key, lane = heads[0]
        if not quota.take(lane):
            heapq.heappop(heads)
            continue
        window = windows[lane]
        window.pop()
        taken.append((lane, key))
        head = window.head()
        if head is not None:
            heapq.heapreplace(heads, (head, lane))
        elif window.must_fill:
            break
        else:
            heapq.heappop(heads)
    return taken
