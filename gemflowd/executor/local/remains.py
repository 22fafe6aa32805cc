"""What is left of a worker when it has ended: its control group, and processes that it had below it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from gemflowd.executor.local.lease import VARIABLE, Lease
from gemflowd.host.cgroups import WorkerGroup
from gemflowd.host.process import children_of, environment_of

#: Seconds, about, for which an ended worker's control group is tried to be removed: what was in it ends meanwhile.
_GROUP_PATIENCE: Final = 10.0
#: Seconds for which the end of the daemon waits for that.
_LAST_PATIENCE: Final = 0.3


class Remains:
    """Clears away."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lease: Lease) -> None:
        self._loop = loop
        self._lease = lease
        self._groups: set[WorkerGroup] = set()  # not removed yet

    def remove(self, group: WorkerGroup) -> None:
        """Kill what is in a control group and remove it, as soon as the kernel lets us."""
        self._groups.add(group)
        self._try(group, 0.01)

    def _try(self, group: WorkerGroup, after: float) -> None:
        if group.remove() or after >= _GROUP_PATIENCE:
            self._groups.discard(group)
        else:
            self._loop.call_later(after, self._try, group, after * 2)

    async def gone(self) -> None:
        """What is in the groups ends within milliseconds, and where it does not the daemon's end must not wait for it."""
        deadline = self._loop.time() + _LAST_PATIENCE
        while self._groups and self._loop.time() < deadline:  # noqa: ASYNC110 - `_try` tries again and again
            await asyncio.sleep(0.01)

    def kill_orphans(self, nurseries: Collection[int]) -> None:
        """Each worker is the subreaper of what it starts, so what became our child has lost its worker.

        It carries the lease's mark, unless it has cleared its environment; other children of this process have other environments.
        """
        for pid in children_of(os.getpid()):
            environment = None if pid in nurseries else environment_of(pid)
            if environment is not None and (not environment or environment.get(VARIABLE) == self._lease.marker):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
