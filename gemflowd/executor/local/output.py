"""The daemon's ends of what a worker writes past its channel: two pipes of a blocking worker, and a page of last words of each.

The worker reads its pipes itself, because it alone knows which attempt runs (`worker.raw`). What it does not come to read is read here:
when it is dead, and while C code keeps the interpreter's lock, or such code would wait for ever in front of a full pipe.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from gemflowd.host.logs import redact
from gemflowd.model.attempt import Kind
from gemflowd.worker import wire

Line = tuple[str, str]  # stream, text

STREAMS: Final = ("stdout", "stderr")
#: Bytes of last words that are kept, lines in all, characters of each, and bytes of the lines.
_MOST_WORDS: Final = 16 * 1024
_MOST_LINES: Final = 10_000
_MOST_LINE: Final = 8_192
_MOST_BYTES: Final = 1024 * 1024
_PIPE: Final = 64 * 1024


class Output:
    """Those of one worker.

    Attributes:
        descriptors: what the worker inherits: the file of last words; and for a blocking one reading and writing end of the pipe that is
            its standard output, and the same for standard error.
    """

    def __init__(self, kind: Kind) -> None:
        self._words = os.memfd_create("gemflow-last-words", os.MFD_CLOEXEC)
        os.ftruncate(self._words, wire.LAST_WORDS_AT)
        self._readers: dict[str, int] = {}
        self._writers: list[int] = []
        self.descriptors = [self._words]
        self._seen: tuple[object, int] | None = None  # at the last look: whose it was, and what was read by then
        self._left: tuple[object, int, int] = (None, 0, 0)  # of that attempt: lines and bytes that it may still have
        if kind is Kind.BLOCKING:
            for name in STREAMS:
                reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                os.set_blocking(writer, True)
                self._readers[name] = reader
                self._writers.append(writer)
                self.descriptors += [reader, writer]

    def handed_over(self) -> None:
        """The worker has them, or never will."""
        for writer in self._writers:
            os.close(writer)
        self._writers.clear()
        self.descriptors = []

    def overdue(self, attempt: object) -> list[Line]:
        """What has lain there since the last look without the worker coming to read it, while the same attempt ran."""
        if not any(map(_has_something, self._readers.values())):
            self._seen = None
            return []
        seen = (attempt, self._count())
        if self._seen != seen:
            self._seen = seen
            return []
        return list(self._within_limits(attempt))

    def last(self, attempt: object) -> list[Line]:
        """All that is left when the worker is dead: the pipes, and then its last words."""
        with suppress(OSError):
            words = os.pread(self._words, _MOST_WORDS, wire.LAST_WORDS_AT)
            return [*self._within_limits(attempt), *(("stderr", line) for line in _lines(words))]
        return []

    def close(self) -> None:
        self.handed_over()
        for descriptor in (self._words, *self._readers.values()):
            os.close(descriptor)
        self._readers.clear()

    def _count(self) -> int:
        return int(struct.unpack("=Q", os.pread(self._words, 8, 0))[0])

    def _within_limits(self, attempt: object) -> Iterator[Line]:
        whose, lines, size = self._left
        if whose != attempt:
            lines, size = _MOST_LINES, _MOST_BYTES
        for name, reader in self._readers.items():
            with suppress(BlockingIOError):
                data = os.read(reader, _PIPE)
                for line in _lines(data):
                    lines, size = lines - 1, size - len(line)
                    if lines >= 0 and size >= 0:
                        yield name, line
        self._left = (attempt, lines, size)


def _has_something(reader: int) -> bool:
    return fcntl.ioctl(reader, termios.FIONREAD, b"\0\0\0\0") != b"\0\0\0\0"


def _lines(data: bytes) -> list[str]:
    return [redact(line)[:_MOST_LINE] for line in data.decode("utf-8", "replace").splitlines()]
