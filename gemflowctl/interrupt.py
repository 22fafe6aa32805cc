"""Ends the waits of a thread from another thread, by a descriptor that polls can include."""

from __future__ import annotations

import os
import select


class Interrupted(BaseException):
    """The thread was asked to end. Not an error: nothing but the thread's own top level catches it."""


class Interrupt:
    """Set once; stays set."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._set = False

    def fileno(self) -> int:
        """Readable once it is set."""
        return self._read

    def set(self) -> None:
        if not self._set:
            self._set = True
            os.write(self._write, b"x")

    def wait(self, seconds: float) -> None:
        """Sleep, but not longer than until it is set."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.poll(seconds * 1000)

    def check(self) -> None:
        """Raise `Interrupted` if it is set."""
        if self._set:
            raise Interrupted

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)
