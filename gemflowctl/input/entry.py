"""One task of a file, with the place where it stands. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: a file (`-` for the standard input) and a line, or the index in a list without known lines."""

    file: str
    line: int | None = None
    index: int | None = None

    def __str__(self) -> str:
        name = "standard input" if self.file == "-" else self.file
        if self.line is not None:
            return f"{name}, line {self.line}"
        return f"{name}, tasks[{self.index}]" if self.index is not None else name


#: Makes the task of one item of a file; raises InvalidInput with the place.
Maker: TypeAlias = Callable[[Any, Place], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A task as the daemon takes it, and its place."""

    task: dict[str, Any]
    place: Place


@dataclass(frozen=True, slots=True)
class Document:
    """What one file holds."""

    entries: list[Entry]
    name: str | None = None
