"""Which slot takes a task: where there is room, and how many very short tasks go over at a time.

A blocking worker runs one task at a time. While tasks are very short, several are handed over, as many as fill about
20 ms by their type's measured mean, so that the way there and back is paid once for all of them. Behind one that is short
the next one waits in the worker, where enough others are left for every slot: so a worker need not wait for its next one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gemflowd.model.attempt import Kind

#: Seconds of very short work that are handed over at a time, and the most tasks (docs/architecture.md).
HAND_OVER_SECONDS: Final = 0.02
HAND_OVER_MOST: Final = 256
#: Up to which mean of both a task waits in the worker behind another one: for so long a more urgent one may be behind it, too.
AHEAD_SECONDS: Final = 0.1
#: What counts as seconds of a task that must have a slot for itself, and of one of which nothing is known.
WHOLE_SLOT: Final = 1.0
#: What the way there and back costs at least, seconds; keeps a type that takes nothing from being free.
_FLOOR: Final = 50e-6
_WEIGHT: Final = 0.1
_COROUTINE: Final = Kind.COROUTINE


class Means:
    """Measured mean seconds per task type: an exponentially weighted mean. Memory of one number per type."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def note(self, task_type: str, seconds: float) -> None:
        mean = self._means.get(task_type)
        # A slow one counts at once, fast ones must prove it: handing over too much is the worse mistake.
        weight = 1.0 if mean is None or seconds > 4 * mean + _FLOOR else _WEIGHT
        self._means[task_type] = seconds if mean is None else mean + weight * (seconds - mean)

    def of(self, task_type: str, unknown: float = WHOLE_SLOT) -> float:
        """Expected seconds; `unknown` where nothing is known."""
        mean = self._means.get(task_type)
        return unknown if mean is None else max(mean, _FLOOR)

    def for_order(self, task_type: str) -> float:
        """The same for putting work in order: what is not known counts as short, and does not go before what is known to be long."""
        return self.of(task_type, HAND_OVER_SECONDS)


@dataclass(slots=True)
class Slot:
    """A worker as the scheduler sees it. `size`: attempts at a time; a blocking worker has 1."""

    name: str
    kind: Kind
    size: int
    tasks: dict[int, float] = field(default_factory=dict)  # running or handed over: number -> expected seconds
    load: float = 0.0  # sum of the above
    stopping: bool = False

    def room(self, mean: float, *, ahead: bool = False) -> int:
        """How many tasks of that mean it takes now. `ahead`: also one that waits behind a short one."""
        if self.stopping:
            return 0
        if self.kind is Kind.COROUTINE:
            return max(0, self.size - len(self.tasks))
        if not self.tasks:
            least = 2 if ahead and mean <= AHEAD_SECONDS else 1
            return max(least, min(HAND_OVER_MOST, int(HAND_OVER_SECONDS / mean)))
        room = min(HAND_OVER_MOST - len(self.tasks), int((HAND_OVER_SECONDS - self.load) / mean))
        return room if room > 0 else int(self.has_room(mean, ahead=ahead))

    def has_room(self, mean: float, *, ahead: bool = False) -> bool:
        """Whether it takes one more of that mean now."""
        if self.kind is _COROUTINE:
            return not self.stopping and len(self.tasks) < self.size
        if not self.tasks:
            return not self.stopping
        if self.stopping or len(self.tasks) >= HAND_OVER_MOST:
            return False
        if self.load + mean <= HAND_OVER_SECONDS:
            return True
        return ahead and len(self.tasks) == 1 and self.load <= AHEAD_SECONDS and mean <= AHEAD_SECONDS

    def put(self, number: int, mean: float) -> None:
        self.tasks[number] = mean
        self.load += mean

    def remove(self, number: int) -> None:
        mean = self.tasks.pop(number, None)
        if mean is not None:
            self.load = self.load - mean if self.tasks else 0.0


class Placing:
    """One round of handing out over the slots of one kind: the least loaded takes the next."""

    def __init__(self, slots: Iterable[Slot]) -> None:
        self._heap = [(slot.load if slot.kind is Kind.BLOCKING else len(slot.tasks), slot.name, slot) for slot in slots]
        heapq.heapify(self._heap)

    def place(self, number: int, mean: float, *, ahead: bool = False) -> Slot | None:
        """The slot that takes the task, None when none has room."""
        while self._heap:
            _, name, slot = self._heap[0]
            if slot.has_room(mean, ahead=ahead):
                slot.put(number, mean)
                load = len(slot.tasks) if slot.kind is _COROUTINE else slot.load
                heapq.heapreplace(self._heap, (load, name, slot))
                return slot
            heapq.heappop(self._heap)
        return None
