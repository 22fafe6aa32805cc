"""Locks between processes, by flock(2) on a file that serves nothing else.

Never on the file that is guarded: closing any descriptor of a database drops SQLite's own locks, and a socket can't be
locked. The kernel gives a lock back when its holder dies, so there are no stale ones.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Self

from gemflowd.model.errors import GemflowError


class LockHeld(GemflowError):
    """Another process has the lock. `pid` is None when it could not be read."""

    def __init__(self, path: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(f"{path} is locked by {holder}; is another gemflowd running?")
        self.path = path
        self.pid = pid


class FileLock:
    """An exclusive lock, held from `acquire` to `release` or to the end of the process.

    The file stays: who removed it would let a third process lock a new file while a second one waits for the old.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._descriptor = -1

    @property
    def held(self) -> bool:
        return self._descriptor >= 0

    def acquire(self) -> None:
        """Take the lock or fail at once.

        Raises:
            LockHeld: another process, or another `FileLock` of this one, has it.
            OSError: the file can't be made, or its file system knows no locks.
        """
        assert not self.held, f"{self.path} is locked already"
        while not self.held:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is(
                    descriptor, self.path
                ):  # else somebody cleaned the directory up in between: not the lock any more
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                    self._descriptor = descriptor
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                raise LockHeld(self.path, _pid(descriptor)) from None
            finally:
                if self._descriptor != descriptor:
                    os.close(descriptor)

    def release(self) -> None:
        """Give it back. Does nothing when it isn't held."""
        if self.held:
            descriptor, self._descriptor = self._descriptor, -1
            os.ftruncate(descriptor, 0)  # the pid of a holder that is none would mislead
            os.close(descriptor)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
