"""Processes that became a worker's children when their parents ended, and have ended themselves: nobody waits for them.

A worker lives for thousands of tasks, and what each leaves is one entry of the machine's table of processes. Who has forked a child
can't be seen any more once it is ours, so a child is left alone as long as anything in this process may still ask for its status.

Does not cover: what goes on running (it ends with the worker), nor what a `command` leaves (`handlers.leftovers`).
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from gemflowd.host.process import children_of

#: So many may be there before it is worth looking who knows of them, which takes some 10 ms.
MANY: Final = 32


def reap_orphans(many: int = MANY) -> int:
    """Reap ended children that no `Popen` or `multiprocessing.Process` stands for, when there are `many`. Between two tasks only.

    Returns:
        How many were reaped.
    """
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return 0  # there are children, and all of them live
    except ChildProcessError:
        return 0
    ended = [pid for pid in children_of(os.getpid()) if _has_ended(pid)]
    if len(ended) < many:
        return 0
    known = _known()
    reaped = 0
    for pid in ended:
        if pid not in known:
            with suppress(ChildProcessError):
                reaped += os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    return reaped


def _known() -> set[int]:
    """Numbers of the processes that an object of this program stands for; also those that `subprocess` keeps for itself."""
    kinds: tuple[type, ...] = (subprocess.Popen,)
    if "multiprocessing.popen_fork" in sys.modules:  # those of `spawn` and `forkserver` are made from its own
        kinds += (sys.modules["multiprocessing.popen_fork"].Popen,)
    objects = (found for found in gc.get_objects() if issubclass(type(found), kinds))
    return {pid for found in objects if isinstance(pid := getattr(found, "pid", None), int)}


def _has_ended(pid: int) -> bool:
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    return False
