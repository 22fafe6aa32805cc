"""Facts and powers about processes that Python's standard library lacks: prctl, memory and children of a process."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PR_SET_CHILD_SUBREAPER: Final = 36
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def die_with_parent(parent: int) -> None:
    """Get SIGKILL when the thread that forked us ends. Call it after any setuid; leaves at once if `parent` is gone already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def become_subreaper() -> None:
    """Orphans below us become our children instead of init's, so that they can be found and reaped."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def raise_file_limit(wanted: int = 65_536) -> None:
    """Allow as many descriptors as the hard limit does, up to `wanted`: three a worker, one a client."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def rss_bytes(pid: int) -> int | None:
    """Resident memory of a process in bytes (proc(5), statm), None when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return None


class StatmReader:
    """Resident memory of one process, read again and again on a kept descriptor: 2 µs a read (docs/architecture.md)."""

    def __init__(self, pid: int) -> None:
        """Raises: OSError: there is no such process."""
        self._descriptor = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)

    def rss(self) -> int | None:
        """Bytes, None when it is gone."""
        try:
            return int(os.pread(self._descriptor, 128, 0).split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return None

    def close(self) -> None:
        os.close(self._descriptor)


def descendants(pid: int, most: int = 1_000) -> list[int]:
    """Processes below that one, at most `most`. A moment's picture: some may be gone, some may be new (proc(5), children)."""
    found: list[int] = []
    waiting = [pid]
    while waiting and len(found) < most:
        children = children_of(waiting.pop())
        found += children
        waiting += children
    return found[:most]


def children_of(pid: int) -> list[int]:
    """The children of all threads of a process; nothing when it is gone, or where the kernel has no such list."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError, ValueError):
                found += map(int, (thread / "children").read_bytes().split())
    return found


def environment_of(pid: int) -> dict[str, str] | None:
    """The environment that a process was started with (proc(5)); None when it is gone, a zombie, or somebody else's."""
    try:
        if not Path(f"/proc/{pid}/cmdline").read_bytes():
            return None
        parts = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    pairs = (part.decode("utf-8", "surrogateescape").partition("=") for part in parts if part)
    return {name: value for name, _, value in pairs}


def pss_bytes(pid: int) -> int | None:
    """Memory of a process with its part of what it shares (proc(5), smaps_rollup), in bytes; None when it is gone. Milliseconds."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:
            return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith(b"Pss:"))
    except (OSError, StopIteration, IndexError, ValueError):
        return None
