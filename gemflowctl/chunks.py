"""Cuts a list of tasks into requests. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gemflowctl.errors import InvalidInput
from gemflowd.model.errors import Invalid
from gemflowd.protocol import codec

#: The daemon's own limit is told by `hello` (`limits.chunk_tasks`); this is what every daemon of version 1 takes.
CHUNK_TASKS: Final = 1000
#: Bytes of one chunk, about: large enough to be quick, small enough not to hold the daemon up.
CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tasks `start … stop - 1` of the list, of the packed size `size` in bytes."""

    start: int
    stop: int
    size: int


def sizes(tasks: Sequence[dict[str, Any]]) -> list[int]:
    """The packed size of each task, in bytes.

    Raises:
        InvalidInput: a task holds what can't be sent; `path` names it.
    """
    found = []
    for index, task in enumerate(tasks):
        try:
            codec.check_value(task, f"tasks[{index}]")
            found.append(len(codec.pack(task)))
        except Invalid as problem:
            raise InvalidInput(problem.message, path=problem.path) from None
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"this can't be sent: {error}", path=f"tasks[{index}]") from None
    return found


def cut(sizes: Sequence[int], start: int = 0, *, tasks: int = CHUNK_TASKS, size: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """Chunks from `start` on; a task that is larger than `size` gets one of its own."""
    begin, weight = start, 0
    for index in range(start, len(sizes)):
        if index > begin and (index - begin >= tasks or weight + sizes[index] > size):
            yield Chunk(begin, index, weight)
            begin, weight = index, 0
        weight += sizes[index]
    if begin < len(sizes):
        yield Chunk(begin, len(sizes), weight)
