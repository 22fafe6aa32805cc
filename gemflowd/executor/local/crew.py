"""One worker as the pool sees it: its process, its channel, its tickets, and what was handed over to it, in order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from gemflowd.executor.local.channel import Channel
from gemflowd.executor.local.nursery_process import NurseryProcess
from gemflowd.executor.local.output import Output
from gemflowd.host.cgroups import WorkerGroup
from gemflowd.host.process import StatmReader, descendants
from gemflowd.model.attempt import Kind, Outcome, Start

Key = tuple[int, int]  # task, token
#: Status of a process that has ended while its nursery tells nothing.
UNKNOWN: Final = -1


@dataclass(slots=True)
class Handed:
    """An attempt that was handed over."""

    order: Start
    began: float  # monotonic: when it started, or, behind another, was handed over
    ending: Outcome | None = None  # asked to stop, and why
    asked: float = 0.0  # monotonic: when it was asked
    asking: int = 0  # its requests that are not answered yet
    waits: float = 0.0  # monotonic: since when there are any
    warned: bool = False  # coroutine: did not stop in time, its neighbours have the grace time now
    progress: dict[str, Any] | None = None  # how far it says that it is: {done, total, message, at}
    before: int = 0  # bytes that earlier tasks have left in its worker: they do not count against a cap of its own
    peak: int = 0  # most bytes that its worker was seen with while it ran, subprocesses included


@dataclass(slots=True)
class Worker:
    """A worker process. `tickets` is an eventfd in semaphore mode, not blocking, shared with the process."""

    name: str
    kind: Kind
    size: int
    tickets: int
    channel: Channel
    nursery: NurseryProcess
    factor: float  # of its limits, see `recycling.jitter`
    output: Output
    pid: int = 0
    pidfd: int | None = None
    said_up: bool = False  # by itself; `up` is when its process is known, too
    up: bool = False
    stopping: bool = False
    ended: bool = False  # EOF on the channel
    status: int | None = None  # as of wait(2), once reaped
    killed_for: str | None = None
    born: float = field(default_factory=time.time)  # for people
    _began: float = field(default_factory=time.monotonic)
    handed: OrderedDict[Key, Handed] = field(default_factory=OrderedDict)
    groups: dict[Key, list[int]] = field(default_factory=dict)  # of processes, that its attempts have told of
    done: int = 0
    asks: bool = False  # since the last outcomes one of its attempts has asked for something, and waits for the answer
    fenced: int = 0  # orders that were taken back and that the worker has not dropped yet
    unstored_logs: int = 0
    refused: list[Key] = field(default_factory=list)  # came while the outbox was not empty; reported when it is
    statm: StatmReader | None = None
    baseline: int = 0  # bytes that it had before its first task
    due: str | None = None  # why it shall be replaced when it can be
    over: tuple[int, int] | None = None  # bytes that it had and bytes of its cap, when it was killed for that
    group: WorkerGroup | None = None  # its control group, where there are any
    blocked: tuple[float, int | None] | None = None  # monotonic: since when its loop stands still, and by which task
    age_timer: asyncio.TimerHandle | None = None
    timers: list[asyncio.TimerHandle] = field(default_factory=list)  # until which it must be up, or gone

    @property
    def age(self) -> float:
        """Seconds since it was asked for; setting the clock does not change them."""
        return time.monotonic() - self._began

    def stands_still(self, seconds: float, task: int | None) -> None:
        """Its loop has not turned for so long, as far as is known because of that task."""
        self.blocked = (time.monotonic() - seconds, task)

    @property
    def lag(self) -> float | None:
        """Seconds for which its loop stands still now."""
        return None if self.blocked is None else time.monotonic() - self.blocked[0]

    def progress(self, most: int) -> list[dict[str, Any]]:
        """How far the first `most` attempts say that they are."""
        first = islice(self.handed.items(), most)
        return [{"task": task, **handed.progress} for (task, _), handed in first if handed.progress is not None]

    @property
    def types(self) -> frozenset[str]:
        """The task types that it runs."""
        return self.nursery.types

    def rss(self) -> int | None:
        """Bytes of memory of the process itself, None when it is gone."""
        return self.statm.rss() if self.statm is not None else None

    @property
    def state(self) -> str:
        if self.stopping:
            return "stopping"
        if not self.up:
            return "starting"
        return "busy" if self.handed else "idle"

    def take_tickets(self, most: int) -> int:
        """Take up to `most` tickets out again: so many orders, the last ones, will not start."""
        taken = 0
        with suppress(BlockingIOError):
            while taken < most:
                os.eventfd_read(self.tickets)
                taken += 1
        return taken

    def take_back(self, taken: int) -> list[Key]:
        """Forget the last `taken` orders, whose tickets were taken."""
        keys = list(self.handed)[len(self.handed) - taken :] if taken else []
        for key in keys:
            del self.handed[key]
        return keys

    def kill(self, why: str) -> None:
        """SIGKILL the process, the process groups that it has told of, and all that is below it.

        It is stopped first, so that it starts nothing while we look. What slips through all the same becomes our child (subreaper) and
        ends with the rest of it, see `pool`.
        """
        if self.killed_for is None:
            self.killed_for = why
        if self.pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGSTOP)
                below = descendants(self.pid)
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
                for pid in below:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
        if self.group is not None:
            self.group.kill()
        self.kill_groups()

    def kill_groups(self) -> None:
        for group in [group for its in self.groups.values() for group in its]:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        self.groups.clear()

    def close(self) -> None:
        self.channel.close()
        self.output.close()
        os.close(self.tickets)
        if self.age_timer is not None:
            self.age_timer.cancel()
        for timer in self.timers:
            timer.cancel()
        if self.statm is not None:
            self.statm.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def cause(self) -> str:
        """Why the process ended, as a phrase."""
        if self.killed_for is not None:
            return self.killed_for
        if self.due is not None and self.stopping and self.status == 0:
            return f"replaced: {self.due}"
        if self.status is None:
            return "unknown"
        if self.status == UNKNOWN:
            return "it has ended, and nobody has said how"
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            try:
                return signal.Signals(number).name
            except ValueError:  # Python has no names for real-time signals
                return f"signal {number}"
        return f"exit status {os.waitstatus_to_exitcode(self.status)}"
