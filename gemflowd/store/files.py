"""A consistent copy of a database as a new file: whole and durable, or not there."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import apsw

from gemflowd.model.errors import StoreError, StoreFull

#: What a copy is called that is being made; after a kill -9 one may be left, until the next one.
PART_PREFIX: Final = ".gemflow-copy-"
PART_SUFFIX: Final = ".part"
#: Pages in one step, and bytes after which they are really written: what is left for the end would keep the queue's own
#: writes waiting.
_PAGES: Final = 256
_SYNC_EVERY: Final = 4 * 1024 * 1024


class Stopped(Exception):
    """It was asked to stop."""


def sweep(directory: Path) -> None:
    """Remove what copies left that were killed. One that is being made is locked by who makes it, and stays."""
    for part in directory.glob(f"{PART_PREFIX}*{PART_SUFFIX}"):
        with suppress(OSError):
            descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
            finally:
                os.close(descriptor)


def copy_database(source: apsw.Connection, target: Path, stopped: Callable[[], bool] = lambda: False) -> int:
    """Copy a database into a file that does not exist yet, of mode 0600; durable when this returns. Returns its bytes.

    Raises:
        FileExistsError: the target exists.
        OSError, StoreError: it can't be written; nothing is left of it.
        Stopped: `stopped` said so; nothing is left of it.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "exists already", str(target))
    sweep(target.parent)
    descriptor, name = tempfile.mkstemp(PART_SUFFIX, PART_PREFIX, target.parent)  # of mode 0600
    written = Path(name)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _copy_pages(source, written, descriptor, stopped)
        os.fsync(descriptor)
        size = os.fstat(descriptor).st_size
        _name(written, target)
        try:
            _sync_directory(target.parent)
        except OSError:
            target.unlink()
            raise
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            written.unlink()
    return size


def _copy_pages(source: apsw.Connection, written: Path, descriptor: int, stopped: Callable[[], bool]) -> None:
    try:
        with closing(apsw.Connection(str(written), flags=apsw.SQLITE_OPEN_READWRITE)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")  # it is synced by hand, as a whole
            source.execute("BEGIN")  # one moment, however long it takes
            try:
                source.execute("SELECT count(*) FROM sqlite_schema").fetchall()
                with copy.backup("main", source, "main") as backup:
                    synced = 0
                    page = int(source.execute("PRAGMA page_size").get)
                    while not backup.done:
                        if stopped():
                            raise Stopped
                        backup.step(_PAGES)
                        done = (backup.page_count - backup.remaining) * page
                        if done - synced >= _SYNC_EVERY:
                            os.fdatasync(descriptor)
                            synced = done
            finally:
                source.execute("ROLLBACK")
    except apsw.FullError as error:
        raise StoreFull(f"no room for the copy: {error}") from error
    except apsw.Error as error:
        raise StoreError(f"the copy can't be written: {error}") from error


def _name(written: Path, target: Path) -> None:
    """Give the file its name, never that of another one."""
    try:
        os.link(written, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "exists already", str(target)) from None
        written.rename(target)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
