"""Tasks of JSON lines while they are read: none is kept, but where the last ones stood is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, Final

from gemflowctl.chunks import CHUNK_TASKS
from gemflowctl.errors import InvalidInput
from gemflowctl.input.check import to_task
from gemflowctl.input.entry import Maker, Place
from gemflowctl.input.formats import json_line
from gemflowctl.input.reading import Source

#: Refusals name tasks of chunks that are under way; that are never more than a few chunks.
_REMEMBERED: Final = 5 * CHUNK_TASKS


class TaskLines:
    """The tasks of some files, in order, with None where a pipe pauses. May be iterated once.

    Args:
        make: makes the task of each line.

    Attributes:
        count: how many were read.
        each: what is done to each task, in place.
    """

    def __init__(self, sources: Sequence[Source], make: Maker = to_task) -> None:
        self._sources = sources
        self._make = make
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
                task = json_line(line, place, self._make)
                if self.each is not None:
                    self.each(task)
                self._places.append(place)
                self.count += 1
                yield task

    def place(self, index: int) -> Place | None:
        """Where the task with that index stood, if it was one of the last."""
        back = self.count - index
        return self._places[-back] if 0 < back <= len(self._places) else None

    def twin(self, place: Place) -> Place | None:
        """Where the id of that line was used before. Ids are not remembered: the files are read again, if they are none of pipes."""
        if self.size is None:
            return None
        ids: dict[str, Place] = {}
        for source in self._sources:
            with closing(Source(source.file)) as again:
                for found in again.lines():
                    if found is None:
                        continue
                    here = Place(source.file, line=found[0])
                    try:
                        name = str(json_line(found[1], here, self._make).get("id"))
                    except InvalidInput:
                        return None
                    if here == place:
                        return ids.get(name)
                    ids.setdefault(name, here)
        return None

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
