"""Waiting for what another process does to files, by inotify: nobody tells of it in any other way."""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

#: Seconds after which what did not come is a failed test.
PATIENCE = 30.0

_libc = ctypes.CDLL(None, use_errno=True)
_CHANGES = 0x2 | 0x40 | 0x80 | 0x100 | 0x200  # IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE


def until(happened: Callable[[], bool], *directories: Path, patience: float = PATIENCE) -> None:
    """Wait until something has happened: it is looked at now, and after each change in these directories.

    What is below their subdirectories is not watched.
    """
    watch = _libc.inotify_init1(os.O_CLOEXEC)
    assert watch >= 0, os.strerror(ctypes.get_errno())
    try:
        for directory in directories:
            added = _libc.inotify_add_watch(watch, os.fsencode(directory), _CHANGES)
            assert added >= 0, f"{directory}: {os.strerror(ctypes.get_errno())}"
        end = time.monotonic() + patience
        while not happened():
            left = max(0.0, end - time.monotonic())
            assert select.select([watch], [], [], left)[0], f"it has not happened within {patience:g} s"
            os.read(watch, 65_536)
    finally:
        os.close(watch)


def wait_for_file(path: str | Path, patience: float = 1_000.0) -> None:
    """In a handler: wait until the test makes this file."""
    until(Path(path).exists, Path(path).parent, patience=patience)
