"""What the process that runs a query gives up before it sees the query: other files, other programs, the network, and memory.

Landlock (Linux 5.13) lets a process name the files that it may open from now on; the kernel refuses all others, whatever path leads to
them. It is the second wall behind DuckDB's own settings. Limits of resources are kept by the kernel too: DuckDB's memory_limit does not
see what functions allocate for their values.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION_FLAG: Final = 1
_PATH_BENEATH: Final = 1
_NO_NEW_PRIVS: Final = 38

_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_TRUNCATE: Final = 1 << 14
#: Rights on files by the version of Landlock that came with them, all of which are given up.
_FILE_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP: Final = 0b11  # bind and connect, since version 4
_SCOPES: Final = 0b11  # abstract sockets and signals of others, since version 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


def version() -> int:
    """The kernel's version of Landlock; 0: it has none, or a filter of system calls hides it."""
    found: int = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    return max(found, 0)


def shut_in(readable: Iterable[int], writable: Iterable[int]) -> bool:
    """From now on this process can open nothing but the files behind these descriptors. It must not have other threads yet.

    Returns:
        Whether the kernel can do that.

    Raises:
        OSError: it can, and did not.
    """
    known = version()
    if known == 0:
        return False
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise OSError(errno.EBUSY, "there are other threads, which would stay outside")
    rights = next(_FILE_RIGHTS[since] for since in sorted(_FILE_RIGHTS, reverse=True) if since <= known)
    rules = _Ruleset(rights, _TCP if known >= 4 else 0, _SCOPES if known >= 6 else 0)
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    ruleset = _checked(_libc().syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0)))
    try:
        for descriptors, wanted in ((readable, _READ_FILE), (writable, _READ_FILE | _WRITE_FILE | _TRUNCATE)):
            for descriptor in descriptors:
                rule = _Beneath(wanted & rights, descriptor)
                _checked(_libc().syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0)))
        _checked(_libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_libc().syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)
    return True


def limit(memory: int, file_size: int) -> None:
    """Bound, for this process, the bytes of memory (without code and shared files) and of a file that it writes."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
