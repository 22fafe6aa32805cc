"""One worker as the pool sees it: its process, its channel, its tickets, and what was handed over to it, in order."""

from __future__ import annotations

import os
import signal
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field

from gemflowd.executor.local.channel import Channel
from gemflowd.model.attempt import Kind, Outcome, Start

Key = tuple[int, int]  # task, token


@dataclass(slots=True)
class Handed:
    """An attempt that was handed over."""

    order: Start
    began: float  # monotonic: when it started, or, behind another, was handed over
    ending: Outcome | None = None  # asked to stop, and why
    asked: float = 0.0  # monotonic: when it was asked
    asking: int = 0  # its requests that are not answered yet
    warned: bool = False  # coroutine: did not stop in time, its neighbours have the grace time now


@dataclass(slots=True)
class Worker:
    """A worker process. `tickets` is an eventfd in semaphore mode, not blocking, shared with the process."""

    name: str
    kind: Kind
    size: int
    tickets: int
    channel: Channel
    pid: int = 0
    pidfd: int | None = None
    up: bool = False
    stopping: bool = False
    ended: bool = False  # EOF on the channel
    status: int | None = None  # as of wait(2), once reaped
    killed_for: str | None = None
    born: float = field(default_factory=time.time)
    handed: OrderedDict[Key, Handed] = field(default_factory=OrderedDict)
    groups: list[int] = field(default_factory=list)
    done: int = 0
    fenced: int = 0  # orders that were taken back and that the worker has not dropped yet
    unstored_logs: int = 0
    refused: list[Key] = field(default_factory=list)  # came while the outbox was not empty; reported when it is

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
        """SIGKILL the process and the process groups that it started."""
        if self.killed_for is None:
            self.killed_for = why
        if self.pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self.kill_groups()

    def kill_groups(self) -> None:
        for group in self.groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        self.groups.clear()

    def close(self) -> None:
        self.channel.close()
        os.close(self.tickets)
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def cause(self) -> str:
        """Why the process ended, as a phrase."""
        if self.killed_for is not None:
            return self.killed_for
        if self.status is None:
            return "unknown"
        if os.WIFSIGNALED(self.status):
            return signal.Signals(os.WTERMSIG(self.status)).name
        return f"exit status {os.waitstatus_to_exitcode(self.status)}"
