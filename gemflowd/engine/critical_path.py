"""The critical path of a flow that came in chunks: the place of each of its tasks, found in many small steps.

Kept in memory alone: two numbers for each task of one flow, and of one chunk at a time its dependencies.
Does not cover: when that is done, and what is made of it (`engine.ordering`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

from gemflowd.core.graph import places, remaining_paths
from gemflowd.model.task import Task
from gemflowd.store.tables import PathTable

#: Rows of few columns that cost about as much as a row that is loaded and changed.
_A_ROW: Final = 4
#: Rows that are read in one go.
_PIECE: Final = 1_000
#: What the graph's functions do between two yields, in rows.
_STRETCH: Final = 250


class Progress:
    """How far one flow is with being put in order.

    Args:
        seconds: how long a task of a type takes that has no estimate.
        fair: whether tags are shares, or numbers of tasks.
    """

    def __init__(self, table: PathTable, flow: int, seconds: Callable[[str], float], *, fair: bool) -> None:
        self.flow = flow
        self.fair = fair
        self.given = 0  # number of the last task that has its tag
        self.total = 0
        self._table = table
        self._seconds = seconds
        self._starts = array("q")  # of the chunks: their offsets, and the numbers of their first tasks
        self._firsts = array("q")
        self._places: array[int] | None = None
        self._work = self._find()

    def advance(self) -> int | None:
        """Take one step, of about `_STRETCH` rows. Returns how many; None when all places are found."""
        return next(self._work, None)

    def tag(self, task: Task, weight: float) -> float:
        """By its place, when all are found."""
        index = self._index(task.number)
        assert self._places is not None, self.flow
        assert index is not None, task.number
        place = self._places[index]
        if self.fair:
            return (place + 1) / weight
        chunk = bisect_right(self._starts, place) - 1
        return float(self._firsts[chunk] + place - self._starts[chunk])

    def _find(self) -> Iterator[int]:
        after: int | None = -1
        while after is not None:
            page = self._table.chunks(self.flow, after, _PIECE)
            for start, count, first in page:
                self._starts.append(start)
                self._firsts.append(first)
                self.total = start + count
            after = page[-1][0] if len(page) == _PIECE else None
            yield 1 + len(page) // _A_ROW
        # A dependency is in the same or an earlier chunk: from the last chunk on, whatever waits for a task is known before it.
        remaining = array("d", bytes(8 * self.total))
        for chunk in reversed(range(len(self._starts))):
            yield from self._chunk(chunk, remaining)
        for found in places(remaining):
            self._places = found
            yield _STRETCH

    def _chunk(self, chunk: int, remaining: array[float]) -> Iterator[int]:
        """The remaining paths of a chunk's tasks, when those of all later chunks are known."""
        start, first = self._starts[chunk], self._firsts[chunk]
        count = self._end(chunk) - start
        last = first + count - 1
        seconds: list[float] = []
        for begin in range(first, last + 1, _PIECE):
            rows = self._table.estimates(begin, min(begin + _PIECE - 1, last))
            seconds += [self._seconds(type_) if estimate is None else estimate for _, type_, estimate in rows]
            yield 1 + len(rows) // _A_ROW
        behind = [0.0] * count
        parents = [array("I") for _ in range(count)]
        after: tuple[int, int] | None = (first, 0)
        while after is not None:
            edges = self._table.edges(after, last, _PIECE)
            for parent, child in edges:
                if first <= child <= last:
                    parents[child - first].append(parent - first)
                else:
                    index = self._index(child)  # None: of another flow
                    if index is not None and remaining[index] > behind[parent - first]:
                        behind[parent - first] = remaining[index]
            after = edges[-1] if len(edges) == _PIECE else None
            yield 1 + len(edges) // _A_ROW
        for found in remaining_paths(seconds, parents, behind):
            if found is None:
                yield _STRETCH
            else:
                remaining[start : start + count] = array("d", found)

    def _end(self, chunk: int) -> int:
        return self._starts[chunk + 1] if chunk + 1 < len(self._starts) else self.total

    def _index(self, number: int) -> int | None:
        """The place of a task in its submission; None where it is of another one."""
        chunk = bisect_right(self._firsts, number) - 1
        if chunk < 0:
            return None
        index = self._starts[chunk] + number - self._firsts[chunk]
        return index if index < self._end(chunk) else None
