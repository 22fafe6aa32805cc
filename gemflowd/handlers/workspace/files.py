"""Reading, writing and appending, so that many tasks may do it to one file at a time and nobody sees half of it.

A file that is written appears whole, by rename; one that is appended to is cut back if not all could be written. Two locks, both
flock(2), which the kernel gives back when their holder dies: a *name* is locked, by a file in `locks/` beside the workspaces, for
those who give it another content, and the *file* itself for those who read or append, so that `flock FILE …` in a script has a say.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from gemflowd.handlers.errors import Permanent
from gemflowd.handlers.workspace.beneath import open_beneath
from gemflowd.handlers.workspace.errors import explained, not_a_file, too_large

#: Files that are not whole yet begin like this; lists leave them out.
UNFINISHED: Final = ".gemflow-unfinished-"
_LOCKS: Final = (
    1024  # names share them: two that meet wait for each other without need, and no file is left for each name
)
_MOST_STEPS: Final = 128
_READ: Final = 1 << 20
#: Looking at a FIFO or a terminal must not wait for anybody.
_LOOK: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_PLACE: Final = os.O_RDONLY | os.O_DIRECTORY


@dataclass(frozen=True, slots=True)
class Content:
    """What was read. `version` names the content, None when only a part of it was read."""

    data: bytes
    size: int  # bytes of the whole file
    version: str | None


class _Any:
    """Any version will do."""


ANY: Final = _Any()


class Files:
    """The files below one directory.

    Args:
        root: descriptor of the directory.
        locks: descriptor of the directory with the locks of names.
        limit: bytes of the largest file that is read or written.
    """

    def __init__(self, root: int, locks: int, limit: int) -> None:
        self.root = root
        self.limit = limit
        self._locks = locks

    # Reading

    def read(self, path: str, offset: int = 0, most: int | None = None) -> Content:
        """Read a file, or at most `most` bytes of it from `offset` on.

        Raises:
            Permanent: `too_large` if it, or the part of it, is larger than `limit`; and as `explained`.
            Transient: as `explained`.
        """
        with explained(path), self.opened(path) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            size = os.fstat(descriptor).st_size
            wanted = max(0, size - offset) if most is None else min(most, max(0, size - offset))
            if wanted > self.limit:
                raise too_large(path, wanted, self.limit)
            data = _read(descriptor, wanted, offset)
            whole = offset == 0 and len(data) == size
            return Content(data, size, version_of(data) if whole else None)

    @contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """A descriptor for reading a regular file, without a lock. For use inside `explained`."""
        descriptor = open_beneath(self.root, path, _LOOK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise not_a_file(path)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def pinned(self, path: str) -> Iterator[int]:
        """A descriptor for reading a regular file whose name in /proc/self/fd stays the same while others replace the file.

        Errors in the block pass as they are.

        Raises:
            Permanent, Transient: as `explained`.
        """
        with ExitStack() as stack:
            with explained(path):
                descriptor = self._pinned(stack.enter_context(self.opened(path)))
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def _pinned(self, original: int) -> int:
        """The same file under a name of its own, which is taken away at once: what has no name can't be renamed."""
        name = f"{UNFINISHED}{os.urandom(8).hex()}"
        try:
            os.link(f"/proc/self/fd/{original}", name, dst_dir_fd=self.root, follow_symlinks=True)
        except OSError:  # on another file system, or not ours to link: a copy
            return self._copied(original, name)
        try:
            found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.root)
        finally:
            os.unlink(name, dir_fd=self.root)
        if not os.path.samestat(os.fstat(found), os.fstat(original)):
            os.close(found)
            raise OSError(errno.EIO, "replaced while it was opened")
        return found

    def _copied(self, original: int, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        copy = os.open(name, flags, 0o600, dir_fd=self.root)
        try:
            os.unlink(name, dir_fd=self.root)
            position = 0
            while sent := os.sendfile(copy, original, position, 1 << 24):
                position += sent
        except BaseException:
            os.close(copy)
            raise
        return copy

    @contextmanager
    def directory(self, path: str, *, make: bool = False) -> Iterator[int]:
        """A descriptor of a directory below the root, made with those above it if `make`. For use inside `explained`."""
        descriptor = self._make(_steps(path)) if make else open_beneath(self.root, path, _PLACE)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def directory_named(self, path: str) -> Iterator[int]:
        """A descriptor of a directory that is there; errors in the block pass as they are.

        Raises:
            Permanent, Transient: as `explained`.
        """
        with ExitStack() as stack:
            with explained(path):
                descriptor = stack.enter_context(self.directory(path))
            yield descriptor

    # Writing

    def write(self, path: str, data: bytes, expected: str | _Any | None = ANY) -> tuple[str, bool]:
        """Give a file this content, all at once. Directories that are missing are made.

        Args:
            path: relative to the root.
            data: the content.
            expected: the version that it must have now; None: it must not be there.

        Returns:
            The new version, and whether the file is new.

        Raises:
            Permanent: `version_mismatch`, `too_large`; and as `explained`.
            Transient: as `explained`.
        """
        if len(data) > self.limit:
            raise too_large(path, len(data), self.limit)
        with explained(path), self._place(path) as (place, name), self._name_locked(place, name):
            mode = self._replaceable(place, name, path)
            with self._held(place, name, mode is not None) as current:
                if not isinstance(expected, _Any):
                    self._compare(current, expected, path)
                self._replace(place, name, data, mode)
        return version_of(data), mode is None

    def append(self, path: str, data: bytes) -> int:
        """Add to the end of a file, which is made if it is not there. Returns how large it is now, in bytes.

        Raises:
            Permanent: `too_large`; and as `explained`.
            Transient: as `explained`.
        """
        with explained(path), self._place(path) as (place, name), self._name_locked(place, name):
            new = self._replaceable(place, name, path) is None
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, 0o600, dir_fd=place)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                before = os.fstat(descriptor).st_size
                if before + len(data) > self.limit:
                    raise too_large(path, before + len(data), self.limit)
                try:
                    _write(descriptor, data)
                    os.fsync(descriptor)
                except BaseException:  # also an interruption: what is repeated must not find half of itself
                    os.ftruncate(descriptor, before)
                    raise
            finally:
                os.close(descriptor)
            if new:
                os.fsync(place)
            return before + len(data)

    @contextmanager
    def replacing(self, path: str) -> Iterator[int]:
        """A descriptor of an empty file, which becomes `path` when the block ends well. Nobody waits meanwhile.

        Raises:
            Permanent, Transient: as `explained`.
        """
        with ExitStack() as stack:
            with explained(path):
                place, name = stack.enter_context(self._place(path))
                self._replaceable(place, name, path)  # rather now than when the work is done
                descriptor, unfinished = stack.enter_context(self._unfinished(place))
            yield descriptor
            with explained(path), self._name_locked(place, name):
                mode = self._replaceable(place, name, path)
                with self._held(place, name, mode is not None):
                    self._put(place, descriptor, unfinished, name, mode)

    # Pieces of it

    @contextmanager
    def _place(self, path: str) -> Iterator[tuple[int, str]]:
        """The directory that a path is in, made if it is missing, and the name in it."""
        above, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            raise not_a_file(path, "is a directory")
        if path.startswith("/"):
            raise OSError(errno.EXDEV, "absolute", path)
        if name.startswith(UNFINISHED):
            raise Permanent(f"{path!r}: names that begin with {UNFINISHED} are the program's own", code="bad_path")
        with self.directory(above, make=True) as place:
            yield place, name

    def _make(self, steps: list[str]) -> int:
        path = "/".join(steps)
        try:
            return open_beneath(self.root, path, _PLACE)
        except FileNotFoundError:
            if not steps:
                raise
        above = self._make(steps[:-1])
        try:
            with suppress(FileExistsError):
                os.mkdir(steps[-1], 0o700, dir_fd=above)
        finally:
            os.close(above)
        return open_beneath(self.root, path, _PLACE)

    @contextmanager
    def _name_locked(self, place: int, name: str) -> Iterator[None]:
        where = os.fstat(place)
        key = f"{where.st_dev}:{where.st_ino}:{name}".encode("utf-8", "surrogateescape")
        number = int.from_bytes(hashlib.sha256(key).digest()[:4], "big") % _LOCKS
        lock = os.open(f"{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=self._locks)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @staticmethod
    def _replaceable(place: int, name: str, path: str) -> int | None:
        """The permissions of the file with this name, None if there is none. A link is neither followed nor replaced."""
        try:
            found = os.stat(name, dir_fd=place, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            raise not_a_file(path, "is a link" if stat.S_ISLNK(found.st_mode) else "is no regular file")
        return stat.S_IMODE(found.st_mode)

    @staticmethod
    @contextmanager
    def _held(place: int, name: str, there: bool) -> Iterator[int | None]:
        """The present file, locked: who appends to it must be through before it is replaced."""
        if not there:
            yield None
            return
        descriptor = os.open(name, _LOOK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _compare(self, current: int | None, expected: str | None, path: str) -> None:
        found = None
        if current is not None:
            size = os.fstat(current).st_size
            found = version_of(_read(current, size, 0)) if size <= self.limit else f"({size} bytes)"
        if found != expected:
            words = "is not there" if found is None else f"has the version {found}"
            wanted = "it was expected not to be there" if expected is None else f"expected was {expected}"
            raise Permanent(f"{path!r} {words}; {wanted}", code="version_mismatch")

    def _replace(self, place: int, name: str, data: bytes, mode: int | None) -> None:
        with self._unfinished(place) as (descriptor, unfinished):
            _write(descriptor, data)
            self._put(place, descriptor, unfinished, name, mode)

    @staticmethod
    @contextmanager
    def _unfinished(place: int) -> Iterator[tuple[int, str]]:
        unfinished = f"{UNFINISHED}{os.urandom(8).hex()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(unfinished, flags, 0o600, dir_fd=place)
        try:
            yield descriptor, unfinished
        finally:
            os.close(descriptor)
            with suppress(FileNotFoundError):
                os.unlink(unfinished, dir_fd=place)

    @staticmethod
    def _put(place: int, descriptor: int, unfinished: str, name: str, mode: int | None) -> None:
        if mode is not None:
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
        os.rename(unfinished, name, src_dir_fd=place, dst_dir_fd=place)
        os.fsync(place)


def version_of(data: bytes) -> str:
    """A name for a content: two with the same one are the same."""
    return hashlib.sha256(data).hexdigest()[:32]


def _steps(path: str) -> list[str]:
    if path.startswith("/"):
        raise OSError(errno.EXDEV, "absolute", path)
    steps = [step for step in path.split("/") if step not in ("", ".")]
    if len(steps) > _MOST_STEPS:
        raise OSError(errno.ENAMETOOLONG, "too deep", path)
    return steps


def _read(descriptor: int, wanted: int, offset: int) -> bytes:
    pieces = []
    while wanted > 0 and (piece := os.pread(descriptor, min(wanted, _READ), offset)):
        pieces.append(piece)
        wanted -= len(piece)
        offset += len(piece)
    return b"".join(pieces)


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left[:_READ]) :]
