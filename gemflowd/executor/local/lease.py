"""The lease: whatever an earlier daemon of the same state directory left running ends before anything is dispatched.

Two nets, because each has holes (both tried, docs/architecture.md):

- a `flock`ed descriptor that workers and their subprocesses inherit. The kernel drops it with the last of them. A program
  that closes its descriptors (Python's subprocess does) slips through.
- a variable in the environment that names the lease. It passes through closed descriptors, setsid and double forks; only a
  program that clears its environment as well slips through. Outside a cgroup such a program is not fenced.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from gemflowd.model.errors import GemflowError

log = logging.getLogger("gemflow.pool")

VARIABLE: Final = "GEMFLOW_LEASE"
#: Seconds for killed processes to be gone.
_PATIENCE: Final = 10.0


class LeaseHeld(GemflowError):
    """Processes of an earlier daemon could not be ended."""


class Lease:
    """Taken at start, held by the daemon, inherited by all that it starts."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def marker(self) -> str:
        """The value of the variable that everything started under this lease carries."""
        return str(self._path)

    def take(self) -> int:
        """Kill what an earlier daemon left, then take the lease. Returns how many processes were killed.

        Raises:
            LeaseHeld: something that can't be killed still holds it.
        """
        killed: set[int] = set()
        deadline = time.monotonic() + _PATIENCE
        while True:
            left = self._kill(killed, "an earlier daemon")
            if not left:
                try:
                    fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return len(killed)
                except BlockingIOError:
                    pass
            if time.monotonic() > deadline:
                who = [process.pid for process in left] or f"see: fuser {self._path}"
                raise LeaseHeld(f"processes of an earlier daemon still run and can't be ended: {who}")
            time.sleep(0.01)  # a killed process is gone a moment later; nothing tells us, it is not our child

    def release(self) -> None:
        """Give it back, when the workers are gone; what their tasks have left running ends, in whatever session it is."""
        killed: set[int] = set()
        deadline = time.monotonic() + _PATIENCE
        while left := self._kill(killed, "a task"):
            if time.monotonic() > deadline:
                log.error("processes of tasks still run and can't be ended: %s", [process.pid for process in left])
                break
            time.sleep(0.01)
        os.close(self.descriptor)

    def _kill(self, killed: set[int], whose: str) -> list[psutil.Process]:
        """Kill all that carry the marker, and return those that were there."""
        left = leftovers(self.marker)
        for process in left:
            with suppress(psutil.Error):  # also where its number belongs to another process by now
                process.kill()
                if process.pid not in killed:
                    killed.add(process.pid)
                    log.warning("killed process %d, left by %s", process.pid, whose)
        return left


def leftovers(marker: str) -> list[psutil.Process]:
    """Processes that carry the marker in their environment; those of other users can't be read and are none of ours."""
    found = []
    for candidate in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if candidate.pid != os.getpid() and candidate.environ().get(VARIABLE) == marker:
                found.append(candidate)
    return found
