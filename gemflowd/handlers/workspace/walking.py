"""Looking through the directories of a workspace: what is in them, and where a text is found.

Links are told of and never followed. What can be looked at is bounded by number; how long it takes, by the attempt's timeout.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, Final

from gemflowd.handlers.workspace.errors import explained
from gemflowd.handlers.workspace.files import UNFINISHED, Files

#: Entries that are looked at in one walk, whether they match or not.
MOST_LOOKED_AT: Final = 100_000
_DEEPEST: Final = 64  # a descriptor is held open for each level
_LONGEST_LINE: Final = 500  # characters of a found line that are told
_BINARY: Final = 8192  # bytes at the beginning, in which a NUL says that the file is no text
_KINDS: Final = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "link"))


@dataclass(slots=True)
class Entry:
    path: str  # relative to the root of the workspace
    kind: str  # file, directory, link, other
    size: int
    modified: float


class Walk:
    """Entries below a directory, in the order of their names, each directory before what is in it.

    Attributes:
        cut: whether something was left out, because there is too much or it lies too deep.
    """

    def __init__(self, files: Files, path: str, *, recursive: bool = True) -> None:
        self._files = files
        self._path = path
        self._recursive = recursive
        self._looked_at = 0
        self.cut = False

    def __iter__(self) -> Iterator[tuple[Entry, int, str]]:
        """Each entry, the directory that it is in (open until the next step), and its name there."""
        with explained(self._path), self._files.directory(self._path) as place:
            prefix = "/".join(step for step in self._path.split("/") if step not in ("", "."))
            yield from self._below(place, f"{prefix}/" if prefix else "", 1)

    def _below(self, place: int, prefix: str, depth: int) -> Iterator[tuple[Entry, int, str]]:
        for name in self._names(place):
            try:
                found = os.stat(name, dir_fd=place, follow_symlinks=False)
            except FileNotFoundError:
                continue  # gone meanwhile
            kind = next((word for test, word in _KINDS if test(found.st_mode)), "other")
            yield Entry(prefix + name, kind, found.st_size, found.st_mtime), place, name
            if kind == "directory" and self._recursive:
                if depth >= _DEEPEST:
                    self.cut = True
                    continue
                try:
                    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
                except OSError:
                    continue  # gone, or something else now, or not ours to read
                try:
                    yield from self._below(inner, f"{prefix}{name}/", depth + 1)
                finally:
                    os.close(inner)

    def _names(self, place: int) -> list[str]:
        names = []
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(UNFINISHED):
                    continue
                self._looked_at += 1
                if self._looked_at > MOST_LOOKED_AT:
                    self.cut = True
                    break
                names.append(entry.name)
        return sorted(names)


def matcher(pattern: str | None) -> Callable[[str], bool]:
    """Whether a path matches a shell pattern; without a slash in it, whether its last component does. `*` matches slashes too."""
    if pattern is None:
        return lambda path: True
    # What fnmatch makes of a pattern never goes back (Python 3.11), so no pattern takes for ever.
    match = re.compile(translate(pattern)).match
    if "/" in pattern:
        return lambda path: match(path) is not None
    return lambda path: match(path.rpartition("/")[2]) is not None


def list_files(files: Files, path: str, pattern: str | None, *, recursive: bool, limit: int) -> dict[str, Any]:
    """What is in a directory: `{files: [{path, type, size, modified}], truncated}`.

    Raises:
        Permanent, Transient: as `explained`.
    """
    matches = matcher(pattern)
    walk = Walk(files, path, recursive=recursive)
    found: list[dict[str, Any]] = []
    for entry, _, _ in walk:
        if matches(entry.path):
            if len(found) == limit:
                walk.cut = True
                break
            found.append(
                {"path": printable(entry.path), "type": entry.kind, "size": entry.size, "modified": entry.modified}
            )
    return {"files": found, "truncated": walk.cut}


def search_files(
    files: Files, path: str, pattern: str | None, finds: Callable[[str], bool], *, limit: int
) -> dict[str, Any]:
    """Lines of text files for which `finds` is true: `{matches: [{path, line, text}], searched, skipped, truncated}`.

    Raises:
        Permanent, Transient: as `explained`.
    """
    matches = matcher(pattern)
    walk = Walk(files, path)
    found: list[dict[str, Any]] = []
    searched = skipped = 0
    for entry, place, name in walk:
        if entry.kind != "file" or not matches(entry.path):
            continue
        text = _text(place, name, files.limit)
        if text is None:
            skipped += 1
            continue
        searched += 1
        for number, line in enumerate(_lines(text), 1):
            if finds(line):
                if len(found) == limit:
                    return {"matches": found, "searched": searched, "skipped": skipped, "truncated": True}
                told = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} […]"
                found.append({"path": printable(entry.path), "line": number, "text": told.rstrip("\r")})
    return {"matches": found, "searched": searched, "skipped": skipped, "truncated": walk.cut}


def _lines(text: str) -> Iterator[str]:
    """One after the other: millions of short ones at a time would take many times the memory of their text."""
    begin = 0
    while (end := text.find("\n", begin)) >= 0:
        yield text[begin:end]
        begin = end + 1
    yield text[begin:]


def _text(place: int, name: str, limit: int) -> str | None:
    """The content of a text file, None for what is none, is too large, or can't be read now."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        with open(os.open(name, flags, dir_fd=place), "rb") as file:
            known = os.fstat(file.fileno())
            if not stat.S_ISREG(known.st_mode) or known.st_size > limit:
                return None
            data = file.read(limit + 1)
    except OSError:
        return None
    return None if len(data) > limit or b"\0" in data[:_BINARY] else data.decode("utf-8", "replace")


def printable(path: str) -> str:
    """A path as text that can be stored, also when its name is not UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
