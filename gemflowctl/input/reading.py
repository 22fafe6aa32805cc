"""Task files as bytes: opened, looked into, and read to their end or line by line.

What is large, or a pipe that goes on, is not held as a whole: JSON lines are then read while they are sent.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

from gemflowctl.errors import InvalidInput
from gemflowctl.input.entry import Place

#: Files of this size are read as a whole and checked before anything is sent; larger ones are streamed, if they are JSON lines.
WHOLE_BYTES: Final = 8 * 1024 * 1024
_READ: Final = 256 * 1024


class Source:
    """One file, `-` for the standard input.

    Attributes:
        size: how many bytes there are to read, or None of a pipe.
        read: how many of them were read.

    Raises:
        InvalidInput: it can't be opened.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._ahead = b""
        try:
            self._stream: Any = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115 - `close` does
            about = os.fstat(self._stream.fileno())
        except OSError as error:
            raise InvalidInput(f"{file} can't be read: {error.strerror}") from None
        except ValueError:  # a standard input that is no file
            raise InvalidInput("standard input can't be read") from None
        self.size = about.st_size if stat.S_ISREG(about.st_mode) else None
        self.read = 0

    def exceeds(self, count: int) -> bool:
        """Whether there are more than so many bytes. Of a pipe they are read, and kept."""
        return self.size > count if self.size is not None else len(self.look(count + 1)) > count

    def look(self, count: int) -> bytes:
        """The first so many bytes, or all if there are fewer; reading begins with them anyway."""
        parts = [self._ahead]
        have = len(self._ahead)
        while have < count and (part := self._more()):
            parts.append(part)
            have += len(part)
        self._ahead = b"".join(parts)
        return self._ahead[:count]

    def first_lines(self) -> bytes:
        """Whole lines from the beginning, at least one that is not blank, or all there is; reading begins with them anyway."""
        while not self._ahead.rpartition(b"\n")[0].strip() and (part := self._more()):
            self._ahead += part
        return self._ahead.rpartition(b"\n")[0] or self._ahead

    def whole(self) -> str:
        """All of it.

        Raises:
            InvalidInput: it can't be read, or is not UTF-8.
        """
        raw = self.look(sys.maxsize)
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self._not_text(raw.count(b"\n", 0, error.start) + 1) from None

    def lines(self) -> Iterator[tuple[int, str]]:
        """Its lines that are not blank, with their numbers, while they are read.

        Raises:
            InvalidInput: it can't be read, or a line is not UTF-8.
        """
        ahead, self._ahead = self._ahead, b""
        *whole, begun = ahead.split(b"\n")
        for number, line in enumerate(chain(whole, self._lines_from(begun)), 1):
            if line.strip():
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise self._not_text(number) from None

    def close(self) -> None:
        if self.file != "-":
            self._stream.close()

    def _lines_from(self, begun: bytes) -> Iterator[bytes]:
        line = self._next(self._stream.readline)
        yield begun + line
        while line:
            line = self._next(self._stream.readline)
            yield line

    def _next(self, read: Callable[[], bytes]) -> bytes:
        try:
            part = read()
        except OSError as error:
            raise InvalidInput(f"{self.file} can't be read: {error.strerror}") from None
        self.read += len(part)
        return part

    def _more(self) -> bytes:
        return self._next(lambda: self._stream.read1(_READ))

    def _not_text(self, line: int) -> InvalidInput:
        return InvalidInput(f"{Place(self.file, line=line)}: not UTF-8 text")
