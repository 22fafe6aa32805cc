"""The local executor: nurseries and workers, how many there are, when they are replaced, what becomes of the dead. On the loop's thread.

It has no queue: what is handed over to a worker is either running or about to, and can be taken back at any moment (`attempts`).
Does not cover: which task comes next and where (`engine.dispatch`), what an outcome means for a task (`core.machine`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final

from gemflowd.executor.base import AttemptAsks, Report, Size, WorkerInfo, WorkerLimits
from gemflowd.executor.local import recycling
from gemflowd.executor.local.attempts import Attempts
from gemflowd.executor.local.channel import Channel
from gemflowd.executor.local.crew import UNKNOWN, Worker
from gemflowd.executor.local.lease import Lease
from gemflowd.executor.local.nursery_process import NurseryProcess
from gemflowd.executor.local.options import Options
from gemflowd.executor.local.output import Output
from gemflowd.executor.local.remains import Remains
from gemflowd.executor.local.watch import MemoryWatch
from gemflowd.host.cgroups import Groups
from gemflowd.host.process import StatmReader, rss_bytes
from gemflowd.model.attempt import HandlerInfo, Kind, Start
from gemflowd.model.effects import Retract
from gemflowd.model.errors import ConfigError
from gemflowd.model.facts import SlotDown, SlotStopping, SlotUp
from gemflowd.worker import wire

log = logging.getLogger("gemflow.pool")

#: Coroutines in one worker process: 25 KB each, and one core's worth of events (docs/architecture.md).
COROUTINES_PER_WORKER: Final = 500
#: Seconds for which coroutine workers stay that are not needed any more.
_LINGER: Final = 30.0
#: Seconds before a worker or nursery that died young is replaced: doubled each time, up to the last.
_RESPAWN: Final = (0.05, 10.0)
_YOUNG: Final = 1.0
#: Seconds between a worker's end and the last that is read of it.
_LAST_WORDS: Final = 0.3
#: Seconds after a worker's end within which its nursery should tell how it ended.
_TOLD_WITHIN: Final = 2.0
#: Seconds that a worker has at least to leave when it has nothing to do any more, and to come up.
_LEAVING: Final = 10.0
_COMING_UP: Final = 60.0


class LocalPool:
    """See `executor.base.Executor`.

    Args:
        total: bytes that all workers together may have, where the limits name none.
        progressed: told how far an attempt says that it is: task, attempt, `{done, total, message, at}`.
        loaded: called with the catalogue of a nursery that has taken the place of a dead one; its code may be another.
        groups: where each worker gets a control group of its own, if they are delegated to us.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lease: Lease,
        report: Report,
        asks: AttemptAsks,
        options: Options,
        limits: WorkerLimits | None = None,
        total: int = 0,
        groups: Groups | None = None,
        loaded: Callable[[list[HandlerInfo]], None] = lambda handlers: None,
        progressed: Callable[[int, int, dict[str, Any]], None] = lambda task, attempt, body: None,
    ) -> None:
        self._loop = loop
        self._lease = lease
        self._report = report
        self._options = options
        self._limits = limits or WorkerLimits()
        self._groups = groups
        self._remains = Remains(loop, lease)
        self._loaded = loaded
        self._size = Size(0, 0)
        self._workers: dict[str, Worker] = {}
        self._by_pid: dict[int, Worker] = {}
        self._numbers = 0
        self._rng = random.Random()  # noqa: S311 - jitter, not a secret
        self._nursery: NurseryProcess | None = None  # the one that forks
        self._nurseries: list[NurseryProcess] = []  # with those before it whose workers have not all ended
        self._replacing: dict[Kind, Worker] = {}  # the one that is being replaced
        self._shrink: asyncio.TimerHandle | None = None
        self._nursery_rss = 0
        self._delay = 0.0
        self._pending: list[Callable[[], None]] = []  # what waits for that delay
        self._closing = False
        self._gone: asyncio.Future[None] | None = None
        self._attempts = Attempts(
            loop, self._workers, report, asks, lambda: self._options.grace, self._stop, self._before_ended, progressed
        )
        self._watch = MemoryWatch(
            loop,
            self._workers,
            lambda: self._limits,
            lambda: self._limits.memory_total_mb * recycling.MB or total,
            report,
            self._consider,
            self._attempts.listen,
        )

    # Start and end

    async def attach(self, size: Size) -> list[HandlerInfo]:
        self._size = size
        self._nursery = self._new_nursery(self._options)
        catalogue = await self._loaded_by(self._nursery)
        self._nursery_rss = rss_bytes(self._nursery.pid) or 0  # a fork of it has as much
        self._adjust()
        return catalogue

    async def _loaded_by(self, nursery: NurseryProcess) -> list[HandlerInfo]:
        """Raises: ConfigError: it can't load the handlers, or has ended at once."""
        catalogue = await nursery.ready
        if not nursery.alive:
            raise ConfigError(["the worker nursery ended as soon as it had loaded the handlers"])
        return catalogue

    def _new_nursery(self, options: Options) -> NurseryProcess:
        nursery = NurseryProcess(self._loop, self._lease, options, self)
        self._nurseries.append(nursery)
        return nursery

    async def reload(self, options: Options) -> list[HandlerInfo]:
        """Load the handlers again, in a nursery of their own, and then replace the workers one by one.

        Returns:
            the new catalogue, which the caller makes known.

        Raises:
            ConfigError: the handlers can't be loaded; nothing has changed.
        """
        nursery = self._new_nursery(options)
        catalogue = await self._loaded_by(nursery)
        before, self._nursery, self._options = self._nursery, nursery, options
        self._see_to_nursery(before)
        for worker in self._workers.values():
            self._is_due(worker, "new handler code")
        self._recycle()
        self._adjust()
        return catalogue

    async def close(self) -> None:
        """Kill all workers; what ran is reported as lost. Then the nurseries leave by themselves."""
        self._closing = True
        self._attempts.close()
        self._watch.close()
        if self._shrink is not None:
            self._shrink.cancel()
        for worker in self._workers.values():
            worker.kill("the daemon stops")
        for nursery in self._nurseries:
            if not nursery.ready.done() or any(not w.pid for w in self._workers.values() if w.nursery is nursery):
                nursery.kill()  # it has not come to fork them yet, and may be importing for a while
        if self._workers:
            self._gone = self._loop.create_future()
            await self._gone
        await self._remains.gone()
        for nursery in self._nurseries:
            nursery.close()

    # What nurseries tell (`nursery_process.Parent`)

    def forked(self, name: str, pid: int, pidfd: int) -> None:
        worker = self._workers.get(name)
        if worker is None:
            os.close(pidfd)
            return
        worker.pid, worker.pidfd = pid, pidfd
        log.debug("worker %s was forked, pid %d", name, pid)
        self._by_pid[pid] = worker
        self._loop.add_reader(pidfd, self._process_ended, worker, pidfd)
        worker.timers.append(self._loop.call_later(_COMING_UP, self._not_up, worker))
        with suppress(OSError):  # it is gone already
            worker.statm = StatmReader(pid)
        if self._groups is not None:
            worker.group = self._groups.worker(name, pid, recycling.cap_of(self._limits, worker.rss() or 0))
        self._report_up(worker)

    def _process_ended(self, worker: Worker, pidfd: int) -> None:
        """Its nursery says how, unless it is busy with an import, which may take long, or hangs."""
        self._loop.remove_reader(pidfd)
        self._loop.call_later(_TOLD_WITHIN, self._without_status, worker)

    def _without_status(self, worker: Worker) -> None:
        if self._workers.get(worker.name) is worker and worker.status is None:
            self.exited(worker.pid, UNKNOWN)

    def _not_up(self, worker: Worker) -> None:
        if not worker.up:
            self._overdue(worker)

    def unforked(self, name: str, why: str) -> None:
        log.error("worker %s could not be started: %s", name, why)
        worker = self._workers.get(name)
        if worker is not None:
            worker.ended, worker.status = True, 0
            self._maybe_gone(worker)

    def exited(self, pid: int, status: int) -> None:
        worker = self._by_pid.get(pid)
        if worker is not None and worker.status is None:
            worker.status = status
            self._maybe_gone(worker)
            self._loop.call_later(_LAST_WORDS, self._no_more_from, worker)

    def nursery_ended(self, nursery: NurseryProcess, status: int) -> None:
        """Its workers are gone with it (PDEATHSIG): their attempts are lost without blame."""
        self._nurseries.remove(nursery)
        if nursery.ready.exception() is not None:
            return  # it has said why, to who waited for it
        if not self._closing:
            log.error("a nursery ended with status %s", status)
        if nursery is self._nursery:
            self._nursery = None  # before its workers are replaced: they would be asked of it
            self._later(self._replace_nursery)
        for worker in [worker for worker in self._workers.values() if worker.nursery is nursery]:
            worker.kill("the nursery ended")
            if worker.pid == 0:
                worker.ended = True
            worker.status = worker.status or 0
            self._maybe_gone(worker)
            self._loop.call_later(_LAST_WORDS, self._no_more_from, worker)  # a program may hold its channel open

    def _replace_nursery(self) -> None:
        nursery = self._new_nursery(self._options)
        nursery.ready.add_done_callback(lambda ready: self._replaced(nursery, ready))

    def _replaced(self, nursery: NurseryProcess, ready: asyncio.Future[list[HandlerInfo]]) -> None:
        error = ready.exception()
        if error is None and not nursery.alive:
            self._later(self._replace_nursery)
            return
        if error is not None:
            log.error("the handlers can't be loaded any more: %s", error)
            self._later(self._replace_nursery)
            return
        self._delay = 0.0
        if self._nursery is not None:  # a reload has brought another one meanwhile
            self._see_to_nursery(nursery)
            return
        self._nursery = nursery
        self._loaded(ready.result())
        self._adjust()

    def _see_to_nursery(self, nursery: NurseryProcess | None) -> None:
        """One of old code goes when its last worker has."""
        if nursery is not None and nursery is not self._nursery and nursery.alive and nursery.workers == 0:
            self._nurseries.remove(nursery)
            nursery.retire()

    def _later(self, action: Callable[[], None]) -> None:
        """Do it soon, and later each time that what is started dies young."""
        if action in self._pending:
            return  # those that died together are replaced together
        first, most = _RESPAWN
        self._delay = min(most, max(first, self._delay * 2))
        self._pending.append(action)
        self._loop.call_later(self._delay, self._unless_closing, action)

    def _unless_closing(self, action: Callable[[], None]) -> None:
        self._pending.remove(action)
        if not self._closing:
            try:
                action()
            except OSError as error:
                log.error("%s; trying again", error)  # noqa: TRY400 - no processes, descriptors or memory: no defect
                self._later(action)

    # How many workers

    def resize(self, size: Size) -> None:
        self._size = size
        self._adjust()

    def _adjust(self) -> None:
        """Start what is missing; ask what is too many to leave when it has finished."""
        if self._nursery is None or not self._nursery.alive or self._closing:
            return
        # One that is to leave and still has a task counts: no more tasks run at a time than was asked for.
        leaving = sum(1 for w in self._workers.values() if w.kind is Kind.BLOCKING and w.stopping and w.handed)
        self._have(Kind.BLOCKING, self._size.workers, 1, leaving)
        workers = math.ceil(self._size.slots / COROUTINES_PER_WORKER)
        each = math.ceil(self._size.slots / workers) if workers else 0
        have = self._of(Kind.COROUTINE)
        used = sum(len(worker.handed) for worker in have)
        wanted = recycling.coroutine_workers(self._size.slots, used, len(have), each)
        if wanted < len(have) <= workers:
            self._shrink_later()
            wanted = len(have)
        self._have(Kind.COROUTINE, wanted, each, 0)

    def _of(self, kind: Kind) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.kind is kind and not worker.stopping]

    def _have(self, kind: Kind, wanted: int, size: int, leaving: int) -> None:
        have = self._of(kind)
        for worker in have:
            if worker.size != size:  # a figure of ours; the process knows nothing of it
                worker.size = size
                if worker.up:
                    self._report(SlotUp(worker.name, worker.kind, worker.size, worker.pid))
        for worker in sorted(have, key=lambda worker: len(worker.handed))[: max(0, len(have) - wanted)]:
            self._stop(worker)
        for _ in range(wanted - len(have) - leaving):
            try:
                self._spawn(kind, size)
            except OSError as error:
                log.error("no further worker can be started: %s", error)  # noqa: TRY400 - no descriptors: no defect
                self._later(self._adjust)
                return

    def _shrink_later(self) -> None:
        """Coroutine workers that are not needed any more stay for a while: the next burst may be near."""
        if self._shrink is None:
            self._shrink = self._loop.call_later(_LINGER, self._shrink_now)

    def _shrink_now(self) -> None:
        self._shrink = None
        have = self._of(Kind.COROUTINE)
        idle = [worker for worker in have if not worker.handed]
        used = sum(len(worker.handed) for worker in have)
        each = max((worker.size for worker in have), default=1)
        wanted = recycling.coroutine_workers(self._size.slots, used, len(have), each)
        for worker in idle[: max(0, len(have) - wanted)]:
            self._stop(worker)
        self._adjust()  # looks again, later, where there are still too many

    def _spawn(self, kind: Kind, size: int) -> None:
        assert self._nursery is not None
        self._numbers += 1
        name = f"{'b' if kind is Kind.BLOCKING else 'c'}{self._numbers}"
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            undo.callback(theirs.close)
            tickets = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.callback(os.close, tickets)
            output = Output(kind)
            undo.pop_all()
        channel = Channel(
            self._loop,
            ours,
            lambda messages: self._said(worker, messages),
            lambda: self._silent(worker),
            lambda: self._attempts.clear(worker),
        )
        factor = recycling.jitter(self._rng)
        worker = Worker(name, kind, size, tickets, channel, self._nursery, factor, output)
        self._workers[name] = worker
        log.debug("worker %s is wanted, of size %d", name, size)
        channel.send([wire.CONFIG, self._options.settings, self._options.grace, self._options.max_result_bytes])
        self._nursery.fork(name, kind, theirs, tickets, worker.output)
        self._look_in_time(worker)

    def _report_up(self, worker: Worker) -> None:
        """It takes tasks when it has said so and its process is known: from then on it can be looked after."""
        if worker.said_up and worker.pid and not worker.stopping:
            worker.up = True
            worker.baseline = worker.rss() or 0
            self._report(SlotUp(worker.name, worker.kind, worker.size, worker.pid))
            self._recycle()

    def _stop(self, worker: Worker) -> None:
        """Let it leave when it has finished what it has started."""
        if not worker.stopping:
            self._retire(worker)
            self._attempts.retract(worker)
            worker.channel.send([wire.STOP])
            self._should_leave(worker)

    def _should_leave(self, worker: Worker) -> None:
        """It has nothing to do any more: what its modules do at the end may hang."""
        if not worker.handed:
            worker.timers.append(self._loop.call_later(max(_LEAVING, self._options.grace), self._overdue, worker))

    def _overdue(self, worker: Worker) -> None:
        if self._workers.get(worker.name) is worker and not worker.handed and (worker.stopping or not worker.up):
            log.warning("worker %s (pid %d) does not leave; killing it", worker.name, worker.pid)
            worker.kill("it did not leave in time")

    def _retire(self, worker: Worker) -> None:
        """Let it get nothing new."""
        if not worker.stopping:
            worker.stopping = True
            log.debug("worker %s is to leave; it has %d attempts", worker.name, len(worker.handed))
            self._report(SlotStopping(worker.name))
            self._loop.call_soon(self._adjust)

    # When they are replaced

    def limit(self, limits: WorkerLimits) -> None:
        self._limits = limits
        for worker in list(self._workers.values()):
            self._consider(worker)
            self._look_in_time(worker)

    def baseline_mb(self) -> int:
        return max(self._nursery_rss, *(worker.baseline for worker in self._workers.values()), 0) // recycling.MB

    def restart(self) -> int:
        workers = [worker for worker in self._workers.values() if not worker.stopping]
        for worker in workers:
            self._is_due(worker, "asked for")
        self._recycle()
        return len(workers)

    def renewing(self) -> int:
        """How many workers are being replaced or shall be."""
        return sum(1 for worker in self._workers.values() if worker.due is not None)

    def _look_in_time(self, worker: Worker) -> None:
        """It may be old before its next task ends."""
        if worker.age_timer is not None:
            worker.age_timer.cancel()
            worker.age_timer = None
        age = recycling.look_after(self._limits, worker.factor)
        if age is not None:
            left = max(0.0, age - worker.age)
            worker.age_timer = self._loop.call_later(left + 0.001, self._consider, worker)

    def _consider(self, worker: Worker) -> None:
        """Whether it has served long enough."""
        if worker.stopping:
            return
        cap, rss = recycling.cap_of(self._limits, worker.baseline), worker.rss() or 0
        if rss > cap:  # the next task would be killed for it: no waiting for others, nor for its minimum life
            worker.due = f"{rss // recycling.MB} MB after a task; its cap is {cap // recycling.MB} MB"
            log.info("worker %s is replaced: %s", worker.name, worker.due)
            self._stop(worker)
            return
        if worker.due is not None:
            return
        why = recycling.reason(self._limits, worker.factor, done=worker.done, age=worker.age, rss=rss, cap=cap)
        if why is not None:
            self._is_due(worker, why)
            self._recycle()

    def _is_due(self, worker: Worker, why: str) -> None:
        if not worker.stopping and worker.due is None:
            worker.due = why

    def _before_ended(self, worker: Worker) -> None:
        """Some of its tasks have ended, and the engine is about to hear of it: if it shall be replaced, now is the time."""
        self._delay = 0.0
        if worker.stopping:
            if not worker.handed:
                self._loop.call_soon(self._adjust)  # it no longer counts
                self._should_leave(worker)
            return
        self._consider(worker)
        if worker.due is not None:
            self._replace(worker)

    def _recycle(self) -> None:
        """Replace those that have nothing to do at once; the others when their task has ended."""
        for worker in list(self._workers.values()):
            if worker.due is not None and (not worker.handed or worker.kind is Kind.COROUTINE):
                self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        """One at a time of each kind, so that capacity drops by no more than one."""
        if worker.stopping or self._closing or worker.kind in self._replacing or self._nursery is None:
            return
        if not all(other.up for other in self._of(worker.kind)):
            return  # the one before has not been replaced yet
        log.info("worker %s is replaced: %s", worker.name, worker.due)
        self._replacing[worker.kind] = worker
        self._stop(worker)

    # Their lives

    def _said(self, worker: Worker, messages: list[Any]) -> None:
        for message in self._attempts.said(worker, messages):
            if message[0] == wire.UP:
                worker.said_up = True
                self._report_up(worker)
            elif message[0] == wire.LAG:
                self._stands_still(worker, *message[1:])

    def _stands_still(self, worker: Worker, seconds: float, task: int | None, stack: str | None) -> None:
        """The loop of a coroutine worker, or it turns again."""
        if stack is None:
            worker.blocked = None
            log.warning("the loop of worker %s turns again, after %.1f s", worker.name, seconds)
            return
        worker.stands_still(seconds, task)
        whose = "a coroutine" if task is None else f"task {task}"
        log.warning("%s has kept the loop of worker %s for %.1f s:\n%s", whose, worker.name, seconds, stack)

    def _silent(self, worker: Worker) -> None:
        worker.ended = True
        self._maybe_gone(worker)
        self._let_next(worker)  # its nursery may be importing for a while before it tells of the end

    def _no_more_from(self, worker: Worker) -> None:
        """It has ended, and a program that it started holds its channel open: don't wait for that one."""
        if self._workers.get(worker.name) is worker and not worker.ended:
            worker.channel.finish()
            worker.ended = True
            self._maybe_gone(worker)

    def _maybe_gone(self, worker: Worker) -> None:
        """Its channel is at EOF and its status is known: say what became of its attempts, and replace it."""
        if not (worker.ended and worker.status is not None) or self._workers.get(worker.name) is not worker:
            return
        del self._workers[worker.name]
        self._by_pid.pop(worker.pid, None)
        worker.kill_groups()
        self._remains.kill_orphans(self.nursery_pids)
        if worker.group is not None:
            if worker.over is None and worker.killed_for is None and (over := worker.group.out_of_memory()) is not None:
                worker.over = (over.used, over.most)
                used = f"used {over.used // recycling.MB} MB; its cap is {over.most // recycling.MB} MB"
                worker.killed_for = used if over.own else f"{used}, but the machine or the service had no memory left"
            self._remains.remove(worker.group)
        started = self._attempts.report_dead(worker, closing=self._closing)
        self._report(SlotDown(worker.name, worker.pid, worker.cause()))
        if worker.pidfd is not None:
            self._loop.remove_reader(worker.pidfd)
        worker.close()
        worker.nursery.workers -= 1
        if self._closing:
            if not self._workers and self._gone is not None and not self._gone.done():
                self._gone.set_result(None)
            return
        log.debug("worker %s is gone after %d attempts: %s", worker.name, worker.done, worker.cause())
        self._see_to_nursery(worker.nursery)
        if not worker.stopping:
            log.warning("worker %s (pid %d) ended: %s", worker.name, worker.pid, worker.cause())
        if worker.age < _YOUNG and not (worker.done or started or worker.stopping):  # of itself, not of a task
            self._later(self._adjust)
        else:
            self._adjust()
        self._let_next(worker)

    def _let_next(self, worker: Worker) -> None:
        """It is out of the way: the next one that is due may be replaced."""
        if self._replacing.get(worker.kind) is worker:
            del self._replacing[worker.kind]
            self._recycle()

    # Attempts

    def start(self, attempts: Sequence[Start]) -> None:
        self._attempts.start(attempts)
        self._watch.wake()
        workers = [self._workers[name] for name in {order.slot for order in attempts} if name in self._workers]
        for worker in workers:
            if worker.group is not None:
                worker.group.limit(self._watch.cap(worker))
        if any(worker.kind is Kind.COROUTINE for worker in workers):
            self._adjust()  # more of them before their slots run out

    def cancel(self, task: int, token: int) -> None:
        self._attempts.cancel(task, token)

    def retract(self, what: Retract) -> None:
        self._attempts.retract_all(what)

    def logs_stored(self, lines: int) -> None:
        self._attempts.logs_stored(lines)

    # Looking

    def workers(self) -> list[WorkerInfo]:
        return [
            WorkerInfo(
                name=worker.name,
                kind=worker.kind.word,
                pid=worker.pid,
                state=worker.state,
                rss_bytes=worker.rss(),
                active=len(worker.handed) if worker.kind is Kind.COROUTINE else min(1, len(worker.handed)),
                tasks=[task for task, _ in list(worker.handed)[:8]],
                done=worker.done,
                started=worker.born,
                recycle=worker.due,
                lag=worker.lag,
                blocked_by=None if worker.blocked is None else worker.blocked[1],
                progress=worker.progress(8),
                cap_bytes=recycling.cap_of(self._limits, worker.baseline),
            )
            for worker in self._workers.values()
        ]

    def progress(self) -> dict[int, dict[str, Any]]:
        return {
            task: handed.progress
            for worker in self._workers.values()
            for (task, _), handed in worker.handed.items()
            if handed.progress is not None
        }

    @property
    def nursery_pids(self) -> frozenset[int]:
        return frozenset(nursery.pid for nursery in self._nurseries)
