"""The local executor: a nursery, its workers, their deadlines and their deaths. Runs on the loop's thread.

It has no queue: what is handed over to a worker is either running or about to, and can be taken back at any moment.
Does not cover: which task comes next and where (`engine.dispatch`), what an outcome means for a task (`core.machine`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from gemflowd.executor.base import AttemptAsks, HandlerSettings, Report, Size, WorkerInfo
from gemflowd.executor.local.channel import Channel
from gemflowd.executor.local.crew import Handed, Key, Worker
from gemflowd.executor.local.lease import VARIABLE, Lease
from gemflowd.host import logs
from gemflowd.host.process import rss_bytes
from gemflowd.model.attempt import Ended, HandlerInfo, Kind, Outcome, Start
from gemflowd.model.errors import ConfigError, Refused
from gemflowd.model.facts import AttemptsEnded, LogLines, SlotDown, SlotStopping, SlotUp, TakenBack
from gemflowd.worker import wire

log = logging.getLogger("gemflow.pool")

#: Coroutines in one worker process: 25 KB each, and one core's worth of events (docs/architecture.md).
COROUTINES_PER_WORKER: Final = 250
#: Seconds that the first of several handed-over tasks may run before what is behind it is taken back.
TAKE_BACK_AFTER: Final = 0.03
#: Log lines of one worker that are not stored yet, before it is no longer listened to.
LOG_CREDIT: Final = 2_000
#: Bytes of answers that a worker has not read, before its attempts get no more.
_MOST_UNREAD: Final = 64 * 1024 * 1024
#: Seconds before a worker or nursery that died young is replaced: doubled each time, up to the last.
_RESPAWN: Final = (0.05, 10.0)
_YOUNG: Final = 1.0
#: Seconds between a worker's end and the last that is read of it.
_LAST_WORDS: Final = 0.3
#: Forks that the nursery is asked for at a time.
_FORKING: Final = 16
#: Libraries that start a thread per core when they are imported would keep the nursery from forking.
_SINGLE_THREAD: Final = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


@dataclass(slots=True, frozen=True)
class Options:
    """How the pool runs its workers. Times in seconds."""

    handlers: Sequence[str] = ()
    handler_path: Sequence[str] = ()
    settings: HandlerSettings = field(default_factory=dict)
    grace: float = 10.0
    max_result_bytes: int = 16 * 1024 * 1024


class LocalPool:
    """See `executor.base.Executor`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lease: Lease,
        report: Report,
        asks: AttemptAsks,
        options: Options,
    ) -> None:
        self._loop = loop
        self._lease = lease
        self._report = report
        self._asks = asks
        self._options = options
        self._size = Size(0, 0)
        self._workers: dict[str, Worker] = {}
        self._by_pid: dict[int, Worker] = {}
        self._numbers = 0
        self._nursery: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._catalogue: list[HandlerInfo] = []
        self._ready: asyncio.Future[list[HandlerInfo]] = loop.create_future()
        self._to_fork: deque[tuple[Worker, socket.socket]] = deque()
        self._forking = 0  # asked of the nursery, not answered yet
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._delay = 0.0
        self._pending: list[Callable[[], None]] = []  # what waits for that delay
        self._closing = False
        self._gone: asyncio.Future[None] | None = None
        self._log_owed: list[tuple[Worker, int]] = []

    # Start and end

    async def attach(self, size: Size) -> list[HandlerInfo]:
        self._size = size
        self._start_nursery()
        return await self._ready

    def _start_nursery(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        options = {
            "parent": os.getpid(),
            "handlers": list(self._options.handlers),
            "handler_path": list(self._options.handler_path),
            "lease": self._lease.descriptor,
            "log": logs.style(),
        }
        environment = {**os.environ, **_SINGLE_THREAD, VARIABLE: self._lease.marker}
        self._catalogue = []
        # -P: nothing is imported from the directory in which somebody happened to start the daemon.
        self._nursery = subprocess.Popen(
            [sys.executable, "-P", "-m", "gemflowd.executor.local.nursery", str(theirs.fileno()), json.dumps(options)],
            pass_fds=(theirs.fileno(), self._lease.descriptor),
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._control = ours
        self._loop.add_reader(ours.fileno(), self._from_nursery)

    async def close(self) -> None:
        """Kill all workers; what ran is reported as lost. Then the nursery leaves by itself."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for worker in self._workers.values():
            worker.kill("the daemon stops")
        if self._nursery is not None and any(not worker.pid for worker in self._workers.values()):
            self._nursery.kill()  # it has not come to fork them yet, and may be importing for a while
        if self._workers:
            self._gone = self._loop.create_future()
            await self._gone
        if self._control is not None:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
        if self._nursery is not None:
            self._nursery.wait(timeout=10)

    # The nursery

    def _from_nursery(self) -> None:
        assert self._control is not None
        while self._control is not None:
            try:
                message, descriptors = wire.receive_packet(self._control)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # said once, when it left something of ours unread; its last words come after
            except OSError:
                message, descriptors = None, []
            if message is None:
                self._nursery_ended()
                return
            self._nursery_says(message, descriptors)

    def _nursery_says(self, message: list[Any], descriptors: list[int]) -> None:
        match message:
            case [wire.HANDLER, fields]:
                self._catalogue.append(HandlerInfo(**{**fields, "kind": Kind(fields["kind"])}))
            case [wire.READY]:
                self._delay = 0.0
                if not self._ready.done():
                    self._ready.set_result(self._catalogue)
                self._adjust()
            case [wire.FAILED, why]:
                if not self._ready.done():
                    self._ready.set_exception(ConfigError([why]))
                else:
                    log.error("the handlers can't be loaded any more: %s", why)
            case [wire.FORKED, name, pid]:
                self._forked(name, pid, descriptors[0])
            case [wire.UNFORKED, name, why]:
                log.error("worker %s could not be started: %s", name, why)
                self._forking -= 1
                worker = self._workers.get(name)
                if worker is not None:
                    worker.ended, worker.status = True, 0
                    self._maybe_gone(worker)
                self._fork_some()
            case [wire.EXITED, pid, status, _peak]:
                worker = self._by_pid.get(pid)
                if worker is not None:
                    worker.status = status
                    self._maybe_gone(worker)
                    self._loop.call_later(_LAST_WORDS, self._no_more_from, worker)
            case [wire.NOTE, text]:
                log.warning("%s", text)

    def _nursery_ended(self) -> None:
        """The nursery is gone and its workers with it (PDEATHSIG): their attempts are lost without blame."""
        assert self._control is not None
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self._control = None
        status = self._nursery.wait() if self._nursery is not None else 0
        for _, theirs in self._to_fork:
            theirs.close()
        self._to_fork.clear()
        self._forking = 0
        if not self._ready.done():
            self._ready.set_exception(
                ConfigError([f"the worker nursery ended with status {status} before it was ready"])
            )
            return
        if self._ready.exception() is not None:
            return  # it has said why, and the daemon does not start
        if not self._closing:
            log.error("the nursery ended with status %s; starting a new one", status)
        for worker in list(self._workers.values()):
            worker.kill("the nursery ended")
            if worker.pid == 0:
                worker.ended = True
            worker.status = worker.status or 0
            self._maybe_gone(worker)
        self._later(self._start_nursery)

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
            action()

    # Workers: how many, and their lives

    def resize(self, size: Size) -> None:
        self._size = size
        self._adjust()

    def restart(self) -> int:
        leaving = [worker for worker in self._workers.values() if not worker.stopping]
        for worker in leaving:
            self._stop(worker)
        self._adjust()
        return len(leaving)

    def _adjust(self) -> None:
        """Start what is missing; ask what is too many to leave when it has finished."""
        if self._control is None or self._closing:
            return
        coroutine_workers = max(1, math.ceil(self._size.slots / COROUTINES_PER_WORKER))
        each = math.ceil(self._size.slots / coroutine_workers)
        for kind, wanted, size in ((Kind.BLOCKING, self._size.workers, 1), (Kind.COROUTINE, coroutine_workers, each)):
            have = [worker for worker in self._workers.values() if worker.kind is kind and not worker.stopping]
            for worker in [worker for worker in have if worker.size != size]:
                have.remove(worker)
                self._stop(worker)
            for worker in sorted(have, key=lambda worker: len(worker.handed))[: max(0, len(have) - wanted)]:
                self._stop(worker)
            for _ in range(wanted - len(have)):
                self._spawn(kind, size)

    def _spawn(self, kind: Kind, size: int) -> None:
        assert self._control is not None
        self._numbers += 1
        name = f"{'b' if kind is Kind.BLOCKING else 'c'}{self._numbers}"
        ours, theirs = socket.socketpair()
        tickets = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        channel = Channel(
            self._loop,
            ours,
            lambda messages: self._worker_says(worker, messages),
            lambda: self._worker_silent(worker),
            lambda: self._clear(worker),
        )
        worker = Worker(name, kind, size, tickets, channel)
        self._workers[name] = worker
        log.debug("worker %s is wanted, of size %d", name, size)
        channel.send([wire.CONFIG, self._options.settings, self._options.grace, self._options.max_result_bytes])
        self._to_fork.append((worker, theirs))
        self._fork_some()

    def _fork_some(self) -> None:
        """Ask for a few forks at a time: the nursery's socket holds only so many requests."""
        while self._to_fork and self._forking < _FORKING and self._control is not None:
            worker, theirs = self._to_fork.popleft()
            packet = [wire.FORK, worker.name, int(worker.kind)]
            wire.send_packet(self._control, packet, [theirs.fileno(), worker.tickets])
            theirs.close()
            self._forking += 1

    def _forked(self, name: str, pid: int, pidfd: int) -> None:
        self._forking -= 1
        self._fork_some()
        worker = self._workers.get(name)
        if worker is None:
            os.close(pidfd)
            return
        worker.pid, worker.pidfd = pid, pidfd
        log.debug("worker %s was forked, pid %d", name, pid)
        self._by_pid[pid] = worker

    def _stop(self, worker: Worker) -> None:
        if not worker.stopping:
            worker.stopping = True
            log.debug("worker %s is to leave; it has %d attempts", worker.name, len(worker.handed))
            self._report(SlotStopping(worker.name))
            back = worker.take_back(worker.take_tickets(len(worker.handed)))
            if back:
                self._report(TakenBack(back))
            worker.channel.send([wire.STOP])

    def _worker_silent(self, worker: Worker) -> None:
        worker.ended = True
        self._maybe_gone(worker)

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
        self._clear(worker)
        back = worker.take_back(worker.take_tickets(len(worker.handed)))
        if back:
            self._report(TakenBack(back))
        self._report_dead(worker)
        self._report(SlotDown(worker.name, worker.pid, worker.cause()))
        worker.close()
        if self._closing:
            if not self._workers and self._gone is not None and not self._gone.done():
                self._gone.set_result(None)
            return
        log.debug("worker %s is gone after %d attempts: %s", worker.name, worker.done, worker.cause())
        if not worker.stopping:
            log.warning("worker %s (pid %d) ended: %s", worker.name, worker.pid, worker.cause())
        if time.time() - worker.born < _YOUNG and not worker.done:
            self._later(self._adjust)
        else:
            self._adjust()

    def _report_dead(self, worker: Worker) -> None:
        """Outcomes of what had started and was not reported: blame only where there is one culprit."""
        started = list(worker.handed.values())
        if not started:
            return
        cause = worker.cause()
        innocent = self._closing or worker.killed_for is not None
        ended = []
        for handed in started:
            if handed.ending is not None:
                outcome = handed.ending
            elif innocent:
                outcome = Outcome.LOST
            else:
                outcome = Outcome.CRASH if len(started) == 1 else Outcome.SUSPECT
            ended.append(self._ended_by_us(handed, outcome, cause))
        self._report(AttemptsEnded(ended))

    def _ended_by_us(self, handed: Handed, outcome: Outcome, cause: str) -> Ended:
        order = handed.order
        messages = {
            Outcome.TIMEOUT: f"ran longer than {order.timeout:g} s and was killed",
            Outcome.CANCELLED: "cancelled, and killed because it did not stop in time",
        }
        error = {
            "class": outcome.word.capitalize(),
            "code": outcome.word,
            "message": messages.get(outcome, f"the worker ended: {cause}"),
        }
        return Ended(
            order.task, order.token, outcome, msgpack.packb(error), time.monotonic() - handed.began, cause=cause
        )

    # Attempts

    def start(self, attempts: Sequence[Start]) -> None:
        by_slot: dict[str, list[Start]] = {}
        for order in attempts:
            by_slot.setdefault(order.slot, []).append(order)
        refused: list[Key] = []
        now = time.monotonic()
        for name, orders in by_slot.items():
            worker = self._workers.get(name)
            if worker is None or worker.stopping or worker.ended or worker.fenced:
                refused += [(order.task, order.token) for order in orders]
                continue
            if not worker.channel.clear:
                worker.refused += [(order.task, order.token) for order in orders]
                continue
            new = [order for order in orders if (order.task, order.token) not in worker.handed]
            if not new:
                continue
            if not worker.handed or worker.kind is Kind.COROUTINE:
                self._wake_at(now + min(order.timeout for order in new))
            if worker.kind is Kind.BLOCKING and len(worker.handed) + len(new) > 1:
                self._wake_at(now + TAKE_BACK_AFTER)
            for order in new:
                worker.handed[order.task, order.token] = Handed(order, now)
            if log.isEnabledFor(logging.DEBUG):
                log.debug("worker %s is handed tasks %s", name, _numbers(order.task for order in new))
            os.eventfd_write(worker.tickets, len(new))  # before the orders: an order without a ticket was taken back
            worker.channel.send([wire.START, [_order(order) for order in new]])
        if refused:
            self._report(TakenBack(refused))

    def _clear(self, worker: Worker) -> None:
        """What came while the worker was not reading may be placed again; earlier it would only come back here."""
        if worker.refused:
            refused, worker.refused = worker.refused, []
            self._report(TakenBack(refused))

    def cancel(self, task: int, token: int) -> None:
        for worker in self._workers.values():
            handed = worker.handed.get((task, token))
            if handed is not None:
                if worker.kind is Kind.BLOCKING and next(iter(worker.handed)) != (task, token):
                    self._retract(worker)
                    if (task, token) not in worker.handed:
                        return
                self._ask(worker, handed, Outcome.CANCELLED)
                return

    def _ask(self, worker: Worker, handed: Handed, why: Outcome) -> None:
        """Politely. The timer comes back after the grace time."""
        if handed.ending is None:
            log.debug("task %d is asked to stop: %s", handed.order.task, why.word)
            handed.ending = why
            handed.asked = time.monotonic()
            worker.channel.send([wire.CANCEL, handed.order.task, handed.order.token])
            self._wake_at(handed.asked + self._options.grace)

    def _retract(self, worker: Worker) -> None:
        """Take back what has not started."""
        back = worker.take_back(worker.take_tickets(max(0, len(worker.handed))))
        if back:
            log.debug("worker %s gives back %d attempts", worker.name, len(back))
            worker.fenced += len(back)
            self._report(TakenBack(back))

    def _worker_says(self, worker: Worker, messages: list[Any]) -> None:
        ended: list[Ended] = []
        lines: list[tuple[int, int, float, str, str]] = []
        for message in messages:
            word = message[0]
            if word == wire.ENDED:
                self._one_ended(worker, message, ended)
            elif word == wire.LOG:
                lines.append(tuple(message[1:]))
            elif word == wire.GROUP:
                worker.groups.append(message[1])
            elif word == wire.REQUEST:
                self._attempt_asks(worker, *message[1:])
            elif word == wire.DROPPED:
                worker.fenced -= message[1]
            elif word == wire.UP:
                worker.up = True
                self._report(SlotUp(worker.name, worker.kind, worker.size, worker.pid))
        if lines:
            worker.unstored_logs += len(lines)
            self._log_owed.append((worker, len(lines)))
            if worker.unstored_logs > LOG_CREDIT:
                worker.channel.pause()
            self._report(LogLines(lines))
        if ended:
            if log.isEnabledFor(logging.DEBUG):
                for one in ended:
                    log.debug("task %d in %s: %s, %.3f s", one.task, worker.name, one.outcome.word, one.seconds)
            self._report(AttemptsEnded(ended))

    def _attempt_asks(self, worker: Worker, number: int, task: int, token: int, op: str, body: bytes) -> None:
        """Hand a request on. What an attempt may not ask at all is refused here."""
        handed = worker.handed.get((task, token))
        if handed is None:
            refused = Refused("stale_attempt", f"the attempt of task {task} that asks for this has ended")
        elif handed.asking >= wire.MOST_REQUESTS or worker.channel.backlog > _MOST_UNREAD:
            refused = Refused("overloaded", "too many requests of this attempt are unanswered; wait for replies")
        else:
            handed.asking += 1
            self._asks(task, token, op, body, lambda *answer: self._answer(worker, handed, number, *answer))
            return
        worker.channel.send([wire.REPLY, number, False, msgpack.packb(refused.to_wire())])

    def _answer(self, worker: Worker, handed: Handed, number: int, granted: bool, body: bytes) -> None:
        """To a worker that is gone: its channel is closed, and drops it."""
        handed.asking -= 1
        worker.channel.send([wire.REPLY, number, granted, body])

    def _one_ended(self, worker: Worker, message: list[Any], ended: list[Ended]) -> None:
        _, task, token, outcome, payload, seconds, retry_after, usage, peak_kb = message
        handed = worker.handed.pop((task, token), None)
        if handed is None:
            return
        worker.done += 1
        self._delay = 0.0
        if worker.kind is Kind.BLOCKING or not worker.handed:  # else some may be a neighbour's
            worker.groups.clear()
        kind = Outcome(outcome)
        if handed.ending is not None and kind is not Outcome.DONE:
            kind = handed.ending  # it ended because it was asked to, whatever it raised on its way
            if kind is Outcome.TIMEOUT:
                error = {
                    "class": "Timeout",
                    "code": "timeout",
                    "message": f"ran longer than {handed.order.timeout:g} s",
                }
                payload = msgpack.packb(error)
        ended.append(Ended(task, token, kind, payload, seconds, retry_after, usage, peak_kb))
        if worker.handed and worker.kind is Kind.BLOCKING:
            head = next(iter(worker.handed.values()))
            head.began = time.monotonic()
            self._wake_at(head.began + min(head.order.timeout, TAKE_BACK_AFTER))

    def logs_stored(self, lines: int) -> None:
        while lines > 0 and self._log_owed:
            worker, owed = self._log_owed[0]
            paid = min(owed, lines)
            worker.unstored_logs -= paid
            lines -= paid
            if worker.unstored_logs <= LOG_CREDIT // 2:
                worker.channel.resume()
            if paid == owed:
                del self._log_owed[0]
            else:
                self._log_owed[0] = (worker, owed - paid)

    # Deadlines

    def _wake_at(self, at: float) -> None:
        """See to the deadlines at that monotonic time. One timer serves all: most deadlines are met and never looked at."""
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._deadlines)

    def _deadlines(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = time.monotonic()
        for worker in list(self._workers.values()):
            if worker.kind is Kind.BLOCKING:
                self._blocking_deadlines(worker, now)
            else:
                for handed in list(worker.handed.values()):
                    self._attempt_deadline(worker, handed, now)

    def _blocking_deadlines(self, worker: Worker, now: float) -> None:
        if not worker.handed:
            return
        head = next(iter(worker.handed.values()))
        if len(worker.handed) > 1:
            if now >= head.began + TAKE_BACK_AFTER:
                self._retract(worker)
                if not worker.handed:
                    return
            else:
                self._wake_at(head.began + TAKE_BACK_AFTER)
        self._attempt_deadline(worker, head, now)

    def _attempt_deadline(self, worker: Worker, handed: Handed, now: float) -> None:
        if handed.ending is None:
            at = handed.began + handed.order.timeout
            if now < at:
                self._wake_at(at)
            else:
                self._ask(worker, handed, Outcome.TIMEOUT)
            return
        at = handed.asked + self._options.grace * (2 if handed.warned else 1)
        if now < at:
            self._wake_at(at)
        elif len(worker.handed) > 1 and worker.kind is Kind.COROUTINE and not handed.warned:
            # Its neighbours are paid calls: nothing new, and the grace time for them.
            handed.warned = True
            if not worker.stopping:
                worker.stopping = True
                self._report(SlotStopping(worker.name))
                self._adjust()
            self._wake_at(at + self._options.grace)
        else:
            log.warning("task %d did not stop in time; killing worker %s", handed.order.task, worker.name)
            worker.kill(f"task {handed.order.task} did not stop in time")

    # Looking

    def workers(self) -> list[WorkerInfo]:
        return [
            WorkerInfo(
                name=worker.name,
                kind=worker.kind.word,
                pid=worker.pid,
                state=worker.state,
                rss_bytes=rss_bytes(worker.pid) if worker.pid else None,
                active=len(worker.handed) if worker.kind is Kind.COROUTINE else min(1, len(worker.handed)),
                tasks=[task for task, _ in list(worker.handed)[:8]],
                done=worker.done,
                started=worker.born,
            )
            for worker in self._workers.values()
        ]

    @property
    def nursery_pid(self) -> int | None:
        return self._nursery.pid if self._nursery is not None else None


def _numbers(tasks: Iterable[int]) -> str:
    """Numbers of tasks for a debug line, the first of many."""
    numbers = list(tasks)
    return " ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")


def _order(order: Start) -> tuple[Any, ...]:
    return (
        order.task, order.token, order.attempt, order.flow, order.id, order.type, order.body, order.inputs, order.timeout,
        order.devices,
    )  # fmt: skip
