"""Task files as bytes: opened, looked into, and read to their end or line by line.

What is large, or a pipe that goes on, is not held as a whole: JSON lines are then read while they are sent.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from select import select
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
        pause: when nothing comes out of a pipe for so many seconds, `lines` says so; None: it waits.

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
        self.pause: float | None = None

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

    def lines(self) -> Iterator[tuple[int, str] | None]:
        """Its lines that are not blank, with their numbers, while they are read; None for a pause.

        Raises:
            InvalidInput: it can't be read, or a line is not UTF-8.
        """
        number = 0
        for line in self._raw_lines():
            if line is None:
                yield None
                continue
            number += 1
            if line.strip():
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise self._not_text(number) from None

    def close(self) -> None:
        if self.file != "-":
            self._stream.close()

    def _raw_lines(self) -> Iterator[bytes | None]:
        part, self._ahead = self._ahead, b""
        begun = b""
        while True:
            *whole, begun = (begun + part).split(b"\n")
            yield from whole
            if self._pauses():
                yield None
            part = self._more()
            if not part:
                yield begun
                return

    def _pauses(self) -> bool:
        """Whether the pipe has nothing for now. `read1` leaves nothing behind in the buffer above it."""
        return self.pause is not None and self.size is None and not select([self._stream], [], [], self.pause)[0]

    def _more(self) -> bytes:
        try:
            part: bytes = self._stream.read1(_READ)
        except OSError as error:
            raise InvalidInput(f"{self.file} can't be read: {error.strerror}") from None
        self.read += len(part)
        return part

    def _not_text(self, line: int) -> InvalidInput:
        return InvalidInput(f"{Place(self.file, line=line)}: not UTF-8 text")
