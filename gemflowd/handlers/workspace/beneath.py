"""Opening a path below a directory, and nowhere else, whatever others rename or link meanwhile.

`openat2` (Linux 5.6) leaves that to the kernel. Where it is missing, or a filter of system calls refuses it, the path is walked
component by component: every step is an `openat` that follows no link, links are read and walked like the rest of the path, and `..`
goes back to the directory that was passed on the way in. Both have the same rules: links may point anywhere inside; what is
absolute, or climbs above the root, fails with EXDEV.

Covers opening only. What is done with the descriptor is `files` and `walking`; a path string is never used twice.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable
from functools import cache
from typing import Final

Opener = Callable[[int, str, int, int], int]

_OPENAT2: Final = 437  # the same on every architecture named below
_MACHINES: Final = frozenset({"x86_64", "aarch64", "riscv64", "ppc64le", "s390x"})
_NO_MAGICLINKS: Final = 0x02
_BENEATH: Final = 0x08
_MOST_LINKS: Final = 40  # as the kernel's own limit
_MOST_RACES: Final = 100  # somebody renames directories all the time: give up


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path`, which is relative to the directory `root`, as `os.open` would.

    Args:
        root: descriptor of the directory that can't be left.
        path: relative; empty for the root itself.
        flags: of open(2); O_CLOEXEC is added.
        mode: permissions of what O_CREAT makes, before the umask.

    Raises:
        OSError: EXDEV if it would leave the root, ELOOP for too many links (or a link at the end, with O_NOFOLLOW), else as open(2).
        ValueError: there is a NUL in the path, or it can't be encoded.
    """
    return _opener()(root, path or ".", flags | os.O_CLOEXEC, mode)


@cache
def _opener() -> Opener:
    """The kernel's way, or ours where it has none. EPERM: filters of older containers know no openat2."""
    if sys.maxsize > 2**32 and os.uname().machine in _MACHINES:
        try:
            root = os.open("/", os.O_PATH | os.O_CLOEXEC)
            try:
                os.close(by_kernel(root, ".", os.O_PATH | os.O_CLOEXEC, 0))
            finally:
                os.close(root)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
        else:
            return by_kernel
    return by_walking


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def by_kernel(root: int, path: str, flags: int, mode: int) -> int:
    """`open_beneath` by openat2(2)."""
    encoded = _encoded(path)
    how = _How(flags, mode if flags & os.O_CREAT else 0, _BENEATH | _NO_MAGICLINKS)
    for _ in range(_MOST_RACES):
        found: int = _libc().syscall(_OPENAT2, root, encoded, ctypes.byref(how), ctypes.sizeof(how))
        if found >= 0:
            return found
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: a rename went on that might have led outside
            raise OSError(number, os.strerror(number), path)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def by_walking(root: int, path: str, flags: int, mode: int) -> int:
    """`open_beneath` by one openat(2) a component."""
    _encoded(path)
    for _ in range(_MOST_RACES):
        walk = _Walk(root, path)
        try:
            return walk.open(flags, mode)
        except _Raced:
            continue
        finally:
            walk.close()
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def _encoded(path: str) -> bytes:
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    return encoded


class _Raced(Exception):
    """What was looked at a moment ago is something else now."""


class _Walk:
    """The directories that were passed, each held open, so that `..` can't be somewhere else meanwhile."""

    def __init__(self, root: int, path: str) -> None:
        self._root = root
        self._passed: list[int] = []
        self._path = path
        self._links = 0
        self._left = self._steps(path)  # the next one last

    def close(self) -> None:
        while self._passed:
            os.close(self._passed.pop())

    def open(self, flags: int, mode: int) -> int:
        while self._left:
            name = self._left.pop()
            if name == "..":
                if not self._passed:
                    raise self._error(errno.EXDEV)
                os.close(self._passed.pop())
            elif self._left:
                if name != ".":  # of a link to "directory/"
                    self._enter(name)
            elif (found := self._end(name, flags, mode)) is not None:
                return found
        return os.open(".", flags, mode, dir_fd=self._here)

    @property
    def _here(self) -> int:
        return self._passed[-1] if self._passed else self._root

    def _enter(self, name: str) -> None:
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._here)
        try:
            kind = os.fstat(found).st_mode
            if stat.S_ISLNK(kind):
                self._follow(found)
            elif not stat.S_ISDIR(kind):
                raise self._error(errno.ENOTDIR)
            else:
                self._passed.append(found)
                found = -1
        finally:
            if found >= 0:
                os.close(found)

    def _end(self, name: str, flags: int, mode: int) -> int | None:
        """Open the last component; None when it is a link, whose steps are to be taken now."""
        if not flags & os.O_NOFOLLOW:
            try:
                found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._here)
            except FileNotFoundError:
                if not flags & os.O_CREAT:
                    raise
            else:
                try:
                    if stat.S_ISLNK(os.fstat(found).st_mode):
                        self._follow(found)
                        return None
                finally:
                    os.close(found)
        try:
            return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=self._here)
        except OSError as error:
            # O_DIRECTORY on a link says ENOTDIR where open(2) says ELOOP.
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and not flags & os.O_NOFOLLOW and self._is_link(name):
                raise _Raced from None
            raise

    def _is_link(self, name: str) -> bool:
        try:
            return stat.S_ISLNK(os.stat(name, dir_fd=self._here, follow_symlinks=False).st_mode)
        except OSError:
            return False

    def _follow(self, link: int) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise self._error(errno.ELOOP)
        self._left += self._steps(os.readlink("", dir_fd=link))

    def _steps(self, path: str) -> list[str]:
        if path.startswith("/"):
            raise self._error(errno.EXDEV)
        steps = [step for step in path.split("/") if step not in ("", ".")]
        if path.endswith(("/", "/.")) and steps and steps[-1] != "..":
            steps.append(".")  # what is before it must be a directory
        return steps[::-1]

    def _error(self, number: int) -> OSError:
        return OSError(number, os.strerror(number), self._path)
