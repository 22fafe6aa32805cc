"""What a program leaves running when it ends, in whatever session it is.

The worker is a child subreaper (`executor.local.nursery`), so a process whose parents have ended becomes its child, on its main thread.
That is how such processes are told from what a handler has started for itself: they are children that were nowhere below the worker
when the program was started, and they are in another session than the worker, which none that the program made can come back to.

Only these are reaped here, each by its number: nobody else's subprocess loses its status. Where the kernel has no lists of children
(CONFIG_PROC_CHILDREN), what has left the program's group ends with the worker.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Seconds in which what is killed has to end; more, and it hangs in the kernel, or forks faster than it can be killed.
_PATIENCE: Final = 5.0
_PAUSES: Final = (0.0005, 0.02)  # seconds between two looks, doubled up to the last
_MOST: Final = 10_000  # processes below the worker that are remembered


class Leftovers:
    """Made before the program is started. Where this process is no subreaper nothing comes here, and nothing is found."""

    def __init__(self) -> None:
        self._before = _below() if _any_child() else set()

    def end(self) -> bool:
        """Kill and reap them, with what they in their turn leave. May be interrupted and called again.

        Returns:
            Whether all of them are gone.
        """
        deadline = time.monotonic() + _PATIENCE
        pause = _PAUSES[0]
        while _any_child() and (left := self._left()):
            for pid in left:
                with suppress(
                    ProcessLookupError, PermissionError
                ):  # ours until it is reaped: the number is no stranger's
                    os.kill(pid, signal.SIGKILL)
            ended = [_reaped(pid) for pid in left]
            if any(ended):
                pause = _PAUSES[0]
                continue  # they may have left something themselves
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])
        return True

    def _left(self) -> list[int]:
        own = os.getsid(0)
        found = []
        for pid in _children(os.getpid(), os.getpid()):
            if pid not in self._before:
                with suppress(ProcessLookupError):
                    if os.getsid(pid) != own:
                        found.append(pid)
        return found


def _any_child() -> bool:
    """Cheaper than a look into /proc, and nearly always all that is needed."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _reaped(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return True  # by somebody else


def _children(pid: int, thread: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split()]
    except OSError:
        return []


def _below() -> set[int]:
    """All processes below this one."""
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting and len(found) < _MOST:
        pid = waiting.pop()
        with suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                new = set(_children(pid, int(thread.name))) - found
                found |= new
                waiting += new
    return found
