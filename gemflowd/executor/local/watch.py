"""The memory of workers that have something to do: looked at every tenth of a second, and above the cap the worker is killed.

Does not cover: replacing a worker that has grown between tasks (`recycling`), the kernel's own limit (`host.cgroups`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from gemflowd.executor.base import Report, WorkerLimits
from gemflowd.executor.local.crew import Worker
from gemflowd.executor.local.recycling import MB, cap_of
from gemflowd.host.process import descendants, pss_bytes, rss_bytes
from gemflowd.model.attempt import Kind
from gemflowd.model.facts import MemoryTight

log = logging.getLogger("gemflow.pool")

#: Seconds between two looks. A fast hog has taken 75 to 300 MB more by then (docs/architecture.md).
EVERY: Final = 0.1
#: The share of the limit for all below which blocking tasks are started again.
_EASY: Final = 0.9


class MemoryWatch:
    """Looks only while something runs.

    Args:
        workers: those of the pool, by name.
        limits: those in force.
        total: bytes that all workers together may have.
        consider: called with a worker that has grown beyond its cap without a task: whether it shall be replaced.
        also: called with each worker that has something to do, at each look.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        workers: Mapping[str, Worker],
        limits: Callable[[], WorkerLimits],
        total: Callable[[], int],
        report: Report,
        consider: Callable[[Worker], None],
        also: Callable[[Worker], None] = lambda worker: None,
    ) -> None:
        self._loop = loop
        self._workers = workers
        self._limits = limits
        self._total = total
        self._report = report
        self._also = also
        self._consider = consider
        self._timer: asyncio.TimerHandle | None = None
        self._tight = False

    def wake(self) -> None:
        """Something has started."""
        if self._timer is None:
            self._timer = self._loop.call_later(EVERY, self._look)

    def cap(self, worker: Worker) -> int:
        """Bytes above which it is killed, with what it runs now."""
        if worker.kind is Kind.BLOCKING and worker.handed:
            head = next(iter(worker.handed.values()))
            if head.order.memory_mb is not None:
                return head.order.memory_mb * MB + head.before
        return cap_of(self._limits(), worker.baseline)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        grown = baseline = 0
        busy = blocking = False
        for worker in list(self._workers.values()):
            if worker.handed:
                self._also(worker)
                rss = self._look_at(worker)
                busy = True
                blocking = blocking or worker.kind is Kind.BLOCKING
            else:
                rss = worker.rss() or 0
                if rss > self.cap(worker):
                    self._consider(worker)
            grown += max(0, rss - worker.baseline)
            baseline = max(baseline, worker.baseline)
        self._see_to_all(grown + baseline, blocking=blocking)
        if busy:
            self.wake()

    def _look_at(self, worker: Worker) -> int:
        """Returns bytes of the worker and of all processes below it."""
        below = descendants(worker.pid) if worker.pid else []
        rss = (worker.rss() or 0) + sum(rss_bytes(pid) or 0 for pid in below)
        cap = self.cap(worker)
        if worker.group is not None:
            worker.group.limit(cap)
        if rss > cap and below:  # forked children share pages, which were counted for each of them
            rss = (pss_bytes(worker.pid) or 0) + sum(pss_bytes(pid) or 0 for pid in below)
        before = 0
        if worker.kind is Kind.BLOCKING:  # in a coroutine worker nobody can tell whose it is
            head = next(iter(worker.handed.values()))
            before = head.before
            head.peak = max(head.peak, rss - before)
        if rss > cap and worker.over is None and worker.killed_for is None:
            worker.over = (rss - before, cap - before)
            why = f"used {(rss - before) // MB} MB; its cap is {(cap - before) // MB} MB"
            log.warning("worker %s: %s; killing it", worker.name, why)
            worker.kill(why)
        return rss

    def _see_to_all(self, total: int, *, blocking: bool) -> None:
        """Above the limit for all nothing more is started, as long as something runs that will give memory back."""
        limit = self._total()
        tight = blocking and limit > 0 and total > limit * (_EASY if self._tight else 1.0)
        if tight is not self._tight:
            self._tight = tight
            if tight:
                log.warning(
                    "all workers together have %d MB, the limit is %d MB; no blocking task starts until they have less",
                    total // MB,
                    limit // MB,
                )
            self._report(MemoryTight(tight))
