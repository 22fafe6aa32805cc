"""Attempts that were handed over to workers: their orders, deadlines, take-backs, log lines, requests and outcomes.

Does not cover: which workers there are, and when they are replaced (`pool`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgpack

from gemflowd.executor.base import AttemptAsks, Report
from gemflowd.executor.local.channel import Pause
from gemflowd.executor.local.crew import Handed, Key, Worker
from gemflowd.model.attempt import TAKE_BACK_AFTER, Ended, Kind, Outcome, Start
from gemflowd.model.effects import Retract
from gemflowd.model.errors import Refused
from gemflowd.model.facts import AttemptsEnded, LogLines, TakenBack
from gemflowd.worker import wire

log = logging.getLogger("gemflow.pool")

#: Seconds for which a worker that has several short tasks left is not listened to: what it says meanwhile is read together. Each wake of
#: the loop and each turn cost as much as many outcomes, and take a core from the workers.
REST: Final = 0.005
#: What must be left in its hand for that, in seconds by what the last ones took.
_ENOUGH_LEFT: Final = 2 * REST
#: Log lines of one worker that are not stored yet, before it is no longer listened to.
LOG_CREDIT: Final = 2_000
#: Bytes of answers that a worker has not read, before its attempts get no more.
_MOST_UNREAD: Final = 64 * 1024 * 1024
#: Seconds of an attempt from which on its memory is read at its end, where no sample was taken on the way.
_WORTH_A_LOOK: Final = 0.02
#: Characters of a dead worker's last words in the daemon's log.
_MOST_LAST_WORDS: Final = 8_000
_OUTCOMES: Final = {int(outcome): outcome for outcome in Outcome}
LogLine = tuple[int, int, float, str, str]  # task, attempt, at, stream, text


class Attempts:
    """What runs in the workers of a pool.

    Args:
        workers: those of the pool, by name.
        grace: seconds between asking an attempt to stop and killing its worker.
        retire: called with a coroutine worker that shall get nothing new, because one of its attempts does not stop.
        progressed: told how far an attempt is: task, attempt, `{done, total, message, at}`.
        before_ended: called with a worker whose attempts have ended, before that is reported: the time to say that it gets no more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        workers: Mapping[str, Worker],
        report: Report,
        asks: AttemptAsks,
        grace: Callable[[], float],
        retire: Callable[[Worker], None],
        before_ended: Callable[[Worker], None],
        progressed: Callable[[int, int, dict[str, Any]], None] = lambda task, attempt, body: None,
    ) -> None:
        self._loop = loop
        self._workers = workers
        self._report = report
        self._asks = asks
        self._grace = grace
        self._retire = retire
        self._before_ended = before_ended
        self._progressed = progressed
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._log_owed: list[tuple[Worker, int]] = []
        self._resting: list[Worker] = []

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # Orders

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
            # A type that came or went with other code may be asked of a worker that does not know it.
            refused += [(order.task, order.token) for order in orders if order.type not in worker.types]
            new = [
                order
                for order in orders
                if order.type in worker.types and (order.task, order.token) not in worker.handed
            ]
            if not new:
                continue
            if not worker.handed or worker.kind is Kind.COROUTINE:
                self._wake_at(now + min(order.timeout for order in new))
            for order in new:
                before = max(0, (worker.rss() or 0) - worker.baseline) if order.memory_mb is not None else 0
                worker.handed[order.task, order.token] = Handed(order, now, before=before)
            if worker.kind is Kind.BLOCKING and len(worker.handed) > 1:
                head = next(iter(worker.handed.values()))
                self._wake_at(head.began + head.order.patience)
            os.eventfd_write(worker.tickets, len(new))  # before the orders: an order without a ticket was taken back
            if log.isEnabledFor(logging.DEBUG):
                log.debug("worker %s is handed tasks %s", name, _numbers(order.task for order in new))
            worker.channel.send([wire.START, [_order(order) for order in new]])
        if refused:
            self._report(TakenBack(refused))

    def clear(self, worker: Worker) -> None:
        """What came while the worker was not reading may be placed again; earlier it would only come back here."""
        if worker.refused:
            refused, worker.refused = worker.refused, []
            self._report(TakenBack(refused))

    def cancel(self, task: int, token: int) -> None:
        for worker in self._workers.values():
            handed = worker.handed.get((task, token))
            if handed is not None:
                if worker.kind is Kind.BLOCKING and next(iter(worker.handed)) != (task, token):
                    self.retract(worker)
                    if (task, token) not in worker.handed:
                        return
                self._ask(worker, handed, Outcome.CANCELLED)
                return

    def _ask(self, worker: Worker, handed: Handed, why: Outcome) -> None:
        """Politely. The timer comes back after the grace time."""
        if handed.ending is None:
            handed.ending = why
            handed.asked = time.monotonic()
            log.debug("task %d is asked to stop: %s", handed.order.task, why.word)
            worker.channel.send([wire.CANCEL, handed.order.task, handed.order.token])
            self._wake_at(handed.asked + self._grace())

    def retract(self, worker: Worker) -> None:
        """Take back what has not started. The worker drops it before it takes anything new."""
        back = worker.take_back(worker.take_tickets(len(worker.handed)))
        if back:
            worker.fenced += len(back)
            log.debug("worker %s gives back %d attempts", worker.name, len(back))
            self._report(TakenBack(back))

    def retract_all(self, what: Retract) -> None:
        for worker in self._workers.values():
            if worker.kind is Kind.BLOCKING and len(worker.handed) > 1:
                head = next(iter(worker.handed.values()))
                if what is Retract.ALL or head.order.patience > TAKE_BACK_AFTER:
                    self.retract(worker)

    # What workers say

    def said(self, worker: Worker, messages: list[Any]) -> list[list[Any]]:
        """Take in what is about attempts. Returns the rest: what is about the worker."""
        ended: list[Ended] = []
        lines: list[LogLine] = []
        rest = []
        for message in messages:
            word = message[0]
            if word == wire.ENDED:
                self._one_ended(worker, message, ended)
            elif word == wire.LOG:
                lines.append(tuple(message[1:]))
            elif word == wire.PROGRESS:
                self._progress(worker, *message[1:])
            elif word == wire.GROUP:
                _, task, token, group = message
                if (task, token) in worker.handed:
                    worker.groups.setdefault((task, token), []).append(group)
            elif word == wire.REQUEST:
                worker.asks = True
                self._attempt_asks(worker, *message[1:])
            elif word == wire.DROPPED:
                worker.fenced -= message[1]
            else:
                rest.append(message)
        self._take_lines(worker, lines)
        if ended:
            if worker.handed and worker.kind is Kind.BLOCKING:
                head = next(iter(worker.handed.values()))
                head.began = time.monotonic()
                self._wake_at(head.began + min(head.order.timeout, head.order.patience))
            if log.isEnabledFor(logging.DEBUG):
                for one in ended:
                    log.debug("task %d in %s: %s, %.3f s", one.task, worker.name, one.outcome.word, one.seconds)
            self._before_ended(worker)
            self._report(AttemptsEnded(ended))
            if not worker.asks and _has_enough(worker, ended):
                self._rest(worker)
            worker.asks = False
        return rest

    def _rest(self, worker: Worker) -> None:
        worker.channel.pause(Pause.REST)
        if not self._resting:
            self._loop.call_later(REST, self._listen_again)
        self._resting.append(worker)

    def _listen_again(self) -> None:
        resting, self._resting = self._resting, []
        for worker in resting:
            worker.channel.resume(Pause.REST)

    def _take_lines(self, worker: Worker, lines: list[LogLine]) -> None:
        if lines:
            worker.unstored_logs += len(lines)
            self._log_owed.append((worker, len(lines)))
            if worker.unstored_logs > LOG_CREDIT:
                worker.channel.pause(Pause.LOGS)
            self._report(LogLines(lines))

    def _progress(
        self, worker: Worker, task: int, token: int, at: float, done: float, total: float | None, message: str | None
    ) -> None:
        handed = worker.handed.get((task, token))
        if handed is not None:
            body = {"done": done, "total": total, "message": message, "at": at}
            handed.progress = body
            self._progressed(task, handed.order.attempt, body)

    def listen(self, worker: Worker) -> None:
        """Take what a blocking worker does not come to read of its output, because C code keeps the interpreter's lock."""
        if worker.kind is Kind.BLOCKING and worker.handed:
            (key, handed), *_ = worker.handed.items()
            self._take_lines(worker, _log_lines(handed, worker.output.overdue(key)))

    def _last_words(self, worker: Worker, started: Sequence[Handed]) -> None:
        """What a dead worker left unread, with the stack of a crash. Where several ran in it nobody can tell whose it is."""
        handed = started[0] if len(started) == 1 else None
        lines = worker.output.last(None if handed is None else (handed.order.task, handed.order.token))
        if handed is not None:
            self._take_lines(worker, _log_lines(handed, lines))
        elif lines:
            text = "\n".join(text for _, text in lines)[:_MOST_LAST_WORDS]
            log.warning("the last words of worker %s (pid %d):\n%s", worker.name, worker.pid, text)

    def _attempt_asks(self, worker: Worker, number: int, task: int, token: int, op: str, body: bytes) -> None:
        """Hand a request on. What an attempt may not ask at all is refused here."""
        handed = worker.handed.get((task, token))
        if handed is None:
            refused = Refused("stale_attempt", f"the attempt of task {task} that asks for this has ended")
        elif handed.asking >= wire.MOST_REQUESTS or worker.channel.backlog > _MOST_UNREAD:
            refused = Refused("overloaded", "too many requests of this attempt are unanswered; wait for replies")
        else:
            if not handed.asking:
                handed.waits = time.monotonic()
            handed.asking += 1
            self._asks(task, token, op, body, lambda *answer: self._answer(worker, handed, number, *answer))
            return
        worker.channel.send([wire.REPLY, number, False, msgpack.packb(refused.to_wire())])

    def _answer(self, worker: Worker, handed: Handed, number: int, granted: bool, body: bytes) -> None:
        """To a worker that is gone: its channel is closed, and drops it."""
        handed.asking -= 1
        if not handed.asking:  # what the daemon took for its answers does not count as running
            handed.began += time.monotonic() - handed.waits
            self._wake_at(handed.began + handed.order.timeout)
        worker.channel.send([wire.REPLY, number, granted, body])

    def _one_ended(self, worker: Worker, message: list[Any], ended: list[Ended]) -> None:
        _, task, token, outcome, payload, seconds, retry_after, usage, _peak = message
        handed = worker.handed.pop((task, token), None)
        if handed is None:
            return
        worker.done += 1
        if worker.groups:
            worker.groups.pop((task, token), None)
        kind = _OUTCOMES.get(outcome) or Outcome(outcome)
        if handed.ending is not None and kind is not Outcome.DONE:
            kind = handed.ending  # it ended because it was asked to, whatever it raised on its way
            if kind is Outcome.TIMEOUT:
                error = {
                    "class": "Timeout",
                    "code": "timeout",
                    "message": f"ran longer than {handed.order.timeout:g} s",
                }
                payload = msgpack.packb(error)
        peak = None
        if worker.kind is Kind.BLOCKING and (handed.peak or seconds >= _WORTH_A_LOOK):
            peak = max(handed.peak, (worker.rss() or 0) - handed.before) // 1024 or None
        ended.append(Ended(task, token, kind, payload, seconds, retry_after, usage, peak))

    def logs_stored(self, lines: int) -> None:
        while lines > 0 and self._log_owed:
            worker, owed = self._log_owed[0]
            paid = min(owed, lines)
            worker.unstored_logs -= paid
            lines -= paid
            if worker.unstored_logs <= LOG_CREDIT // 2:
                worker.channel.resume(Pause.LOGS)
            if paid == owed:
                del self._log_owed[0]
            else:
                self._log_owed[0] = (worker, owed - paid)

    # A worker's death

    def report_dead(self, worker: Worker, *, closing: bool) -> int:
        """Outcomes of what had started and was not reported: blame only where there is one culprit. Returns how many."""
        self.clear(worker)
        back = worker.take_back(worker.take_tickets(len(worker.handed)))
        if back:
            self._report(TakenBack(back))
        started = list(worker.handed.values())
        worker.handed.clear()
        self._last_words(worker, started)
        if started:
            self._report(AttemptsEnded([_of_the_dead(worker, handed, len(started), closing) for handed in started]))
        return len(started)

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
            if now >= head.began + head.order.patience:
                self.retract(worker)
                if not worker.handed:
                    return
            else:
                self._wake_at(head.began + head.order.patience)
        self._attempt_deadline(worker, head, now)

    def _attempt_deadline(self, worker: Worker, handed: Handed, now: float) -> None:
        if handed.ending is None:
            at = handed.began + handed.order.timeout
            if handed.asking:
                pass  # its answer comes back to this
            elif now < at:
                self._wake_at(at)
            else:
                self._ask(worker, handed, Outcome.TIMEOUT)
            return
        at = handed.asked + self._grace() * (2 if handed.warned else 1)
        if now < at:
            self._wake_at(at)
        elif len(worker.handed) > 1 and worker.kind is Kind.COROUTINE and not handed.warned:
            # Its neighbours are paid calls: nothing new, and the grace time for them.
            handed.warned = True
            self._retire(worker)
            self._wake_at(at + self._grace())
        else:
            log.warning("task %d did not stop in time; killing worker %s", handed.order.task, worker.name)
            worker.kill(f"task {handed.order.task} did not stop in time")


def _has_enough(worker: Worker, ended: Sequence[Ended]) -> bool:
    """Whether a worker has several short tasks left, and need not be served at once."""
    if worker.kind is not Kind.BLOCKING or len(worker.handed) < 2:
        return False
    mean = sum(one.seconds for one in ended) / len(ended)
    return len(worker.handed) * mean > _ENOUGH_LEFT


def _numbers(tasks: Iterable[int]) -> str:
    """Numbers of tasks for a debug line, the first of many."""
    numbers = list(tasks)
    return " ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")


def _of_the_dead(worker: Worker, handed: Handed, started: int, closing: bool) -> Ended:
    if handed.ending is not None:
        outcome = handed.ending
    elif worker.over is not None:
        outcome = Outcome.MEMORY if started == 1 else Outcome.SUSPECT
    elif closing or worker.killed_for is not None:
        outcome = Outcome.LOST
    else:
        outcome = Outcome.CRASH if started == 1 else Outcome.SUSPECT
    order, cause = handed.order, worker.cause()
    messages = {
        Outcome.TIMEOUT: f"ran longer than {order.timeout:g} s and was killed",
        Outcome.CANCELLED: "cancelled, and killed because it did not stop in time",
        Outcome.MEMORY: cause,
    }
    error: dict[str, Any] = {
        "class": outcome.word.capitalize(),
        "code": outcome.word,
        "message": messages.get(outcome, f"the worker ended: {cause}"),
    }
    peak = handed.peak
    if worker.over is not None and outcome is Outcome.MEMORY:
        rss, cap = worker.over
        error |= {"rss_mb": rss >> 20, "cap_mb": cap >> 20}
        peak = max(peak, rss)
    seconds = time.monotonic() - handed.began
    return Ended(
        order.task, order.token, outcome, msgpack.packb(error), seconds, cause=cause, peak_kb=peak // 1024 or None
    )


def _log_lines(handed: Handed, lines: Sequence[tuple[str, str]]) -> list[LogLine]:
    now = time.time()
    return [(handed.order.task, handed.order.attempt, now, stream, text) for stream, text in lines]


def _order(order: Start) -> tuple[Any, ...]:
    fields = (
        order.task, order.token, order.attempt, order.flow, order.id, order.type, order.body, order.inputs, order.timeout,
        order.devices, order.memory_mb,
    )  # fmt: skip
    return fields if order.note is None else (*fields, order.note)
