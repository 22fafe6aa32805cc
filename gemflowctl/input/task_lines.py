"""Tasks of JSON lines while they are read: none is kept, but where the last ones stood is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from gemflowctl.chunks import CHUNK_TASKS
from gemflowctl.input.entry import Place
from gemflowctl.input.formats import json_line
from gemflowctl.input.reading import Source

#: Refusals name tasks of chunks that are under way; that are never more than a few chunks.
_REMEMBERED: Final = 5 * CHUNK_TASKS


class TaskLines:
    """The tasks of some files, in order, with None where a pipe pauses. May be iterated once.

    Attributes:
        count: how many were read.
        each: what is done to each task, in place.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._places: deque[Place] = deque(maxlen=_REMEMBERED)
        self.count = 0
        self.each: Callable[[dict[str, Any]], None] | None = None

    def __iter__(self) -> Iterator[dict[str, Any] | None]:
        for source in self._sources:
            for found in source.lines():
                if found is None:
                    yield None
                    continue
                number, line = found
                place = Place(source.file, line=number)
                task = json_line(line, place)
                if self.each is not None:
                    self.each(task)
                self._places.append(place)
                self.count += 1
                yield task

    def place(self, index: int) -> Place | None:
        """Where the task with that index stood, if it was one of the last."""
        back = self.count - index
        return self._places[-back] if 0 < back <= len(self._places) else None

    @property
    def read(self) -> int:
        """How many bytes were read."""
        return sum(source.read for source in self._sources)

    @property
    def size(self) -> int | None:
        """How many there are, or None when one of the files is a pipe."""
        sizes = [source.size for source in self._sources if source.size is not None]
        return sum(sizes) if len(sizes) == len(self._sources) else None

    def close(self) -> None:
        for source in self._sources:
            source.close()
