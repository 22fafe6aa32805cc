"""The turn: facts → load → decide → write → commit → effects. Everything that must not be decided twice is decided here.

The engine runs on a thread of its own, owns the store, and talks to the rest through two doors: `post` (facts in) and
`deliver` (effects out, called after the commit). It sleeps until its inbox or the next deadline. Nothing polls.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

import msgpack

from gemflowd.core.limits import release, stopped_until
from gemflowd.core.turn import CursorKind, Turn
from gemflowd.engine import batches, budgets, cache, values
from gemflowd.engine.asleep import sleep_limit
from gemflowd.engine.attempts import change_slot, end_attempts, take_back
from gemflowd.engine.clocks import Clocks
from gemflowd.engine.deadlines import Deadlines
from gemflowd.engine.detours import detour
from gemflowd.engine.dispatch import dispatch, enqueue
from gemflowd.engine.errors import stop_failing
from gemflowd.engine.limits import ask_limits, forget_empty, set_limit
from gemflowd.engine.memory import Memory
from gemflowd.engine.queues import set_queue
from gemflowd.engine.rows import Rows
from gemflowd.engine.schedules import add_schedule, pause_schedule, remove_schedule
from gemflowd.engine.steering import Steering
from gemflowd.engine.submission import submit
from gemflowd.engine.upkeep import Upkeep
from gemflowd.model import facts
from gemflowd.model.attempt import Ended, Outcome, Start
from gemflowd.model.batch import Answers
from gemflowd.model.effects import Effects, Retract, TaskEnded
from gemflowd.model.errors import Refused, StoreError, StoreFull
from gemflowd.model.event import EventBatch
from gemflowd.model.rules import Rules
from gemflowd.store.base import Snapshot, Store

log = logging.getLogger("gemflow.queue")
T = TypeVar("T")

#: Rows that one turn touches at most, about (docs/architecture.md, "Bounded turns").
TURN_ROWS: Final = 1_000
#: Bytes of a value that cost about as much as a row.
_ROW_BYTES: Final = 8192
#: The share of a turn's rows that cursors get when it has decided many others.
_LEAST_SHARE: Final = 4
#: Open cursors from which on a turn takes fewer facts, and works on those.
_MANY_CURSORS: Final = 100
#: Seconds of a turn that are worth a line in the log: nothing may hold the daemon for longer (docs/architecture.md, 6).
SLOW_TURN: Final = 0.1
#: Seconds without a fact after which nothing seems to be on its way.
_MOMENT: Final = 0.01
#: Seconds between two tries while the disk is full.
_FULL_PAUSE: Final = 1.0


class Opened(NamedTuple):
    """What the store remembered, for the rest of the daemon."""

    settings: dict[str, Any]  # changed at run time
    position: dict[str, Any]  # of the events: {next, topics}
    asleep: dict[str, float]  # limits, until when


class Engine:
    """Owns the queue.

    Args:
        open_store: opens the store, on the engine's thread.
        rules: figures for decisions; `Configure` replaces them.
        clocks: for dates and for durations.
        deliver: takes the effects of each turn, in order. Called on the engine's thread.
        free_bytes: what is free where the database lies; None where nobody needs to know.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        rules: Rules,
        clocks: Clocks,
        deliver: Callable[[Effects], None],
        rng: random.Random | None = None,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._open_store = open_store
        self._rules = rules
        self._clocks = clocks
        self._deliver = deliver
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._inbox: queue.SimpleQueue[facts.Fact] = queue.SimpleQueue()
        self._left: list[facts.Fact] = []  # taken from the inbox, for a later turn
        self._memory = Memory()
        self._steering = Steering()
        self._upkeep = Upkeep(free_bytes)
        self._deadlines = Deadlines(clocks, self._steering, self._upkeep)
        self._draining = False
        self._starting = True  # False: a person wants nothing more to be started for now
        self._stopping = False
        self.opened: Future[Opened] = Future()
        self.refused_outcomes = 0
        self.memory_tight = False  # as the executor has said last
        self.free_devices: tuple[float, ...] = ()  # shares of GPUs, 0 to 1; empty: none are known
        self.turns = 0

    # The two doors

    def post(self, fact: facts.Fact) -> None:
        """Tell the engine something; from any thread, never blocks."""
        self._inbox.put(fact)

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.run, name="engine", daemon=True)
        thread.start()
        return thread

    def run(self) -> None:
        """The thread: open, recover, turn by turn until `Stop`, close."""
        failure: BaseException | None = None
        try:
            self.open()
            while not self._stopping:
                taken = self._take()
                begin = self._clocks.steady()
                effects = self.turn(taken)
                if log.isEnabledFor(logging.DEBUG):
                    _log_turn(taken, effects, self._clocks.steady() - begin)
                if (seconds := self._clocks.steady() - begin) > SLOW_TURN:
                    log.info("a turn with %d facts took %.0f ms", len(taken), seconds * 1e3)
                self._deliver(effects)
            self._store.note_end()
            self._store.upkeep.settle()
        except StoreError as error:
            failure = error
            log.critical("the queue stops: %s", error)
        except Exception as error:
            failure = error
            log.critical("the queue stops because of a defect", exc_info=True)
        finally:
            if not self.opened.done():
                self.opened.set_exception(failure or StoreError("the queue could not be opened"))
            if hasattr(self, "_store"):
                self._store.close()
        self._deliver(Effects(stopped=True, failure=failure))

    def open(self) -> None:
        """Open the store and take up what an earlier daemon left: what was running is lost, and ready again."""
        self._store = self._open_store()
        unclean = self._despite_full(lambda: self._store.note_start())
        snapshot = self._despite_full(lambda: self._recover(unclean=unclean))
        now = self._clocks.wall()
        memory = self._memory
        steady = self._clocks.steady()
        asleep = {
            name: until
            for name, bucket in memory.buckets.items()
            if (until := stopped_until(bucket, steady, now)) > now
        }
        position = {"next": memory.next_event, "topics": memory.ordinals}
        self.opened.set_result(Opened(snapshot.settings, position, asleep))

    def _recover(self, *, unclean: bool) -> Snapshot:
        """Load everything; what was running is lost, and ready again."""
        self._store.budgets.reopen_unpriced()  # there may be a price now
        snapshot = self._store.load()
        if "steady" in snapshot.meta:
            self._clocks.resume(snapshot.meta["steady"], snapshot.meta["wall"])
        self._memory.load(snapshot)
        error = msgpack.packb({"class": "Lost", "code": "lost", "message": "the daemon ended while it ran"})
        now = self._clocks.wall()
        lost = [
            Ended(task.number, task.token, Outcome.LOST, error, max(0.0, now - (task.started or now)))
            for task in self._memory.running.values()
        ]
        if lost:
            log.warning("%d attempts were running when the last daemon ended; their tasks are ready again", len(lost))
            rows = Rows(self._new_turn(), self._store, self._memory)
            self._store.begin()
            end_attempts(rows, lost, unclean=unclean)
            self._conclude(rows, len(lost))
            self._store.commit()
        if self._memory.buckets:
            self._store.begin()
            forget_empty(self._new_turn(), self._store)
            self._store.commit()
        if snapshot.meta.get("ageing", 0.0) != self._rules.ageing:
            self._order_anew()
        return snapshot

    def _despite_full(self, step: Callable[[], T]) -> T:
        """A step of the start that must be written: on a disk that is full it goes into the room that was kept for it."""
        try:
            return step()
        except StoreFull as error:
            if not self._store.upkeep.drop_ballast():
                raise
            log.error("%s; what was kept free for that is used now", error)  # noqa: TRY400
            self._upkeep.disk_is_full(self._memory, self._clocks.steady())
        self._store.rollback()
        return step()

    def _order_anew(self) -> None:
        """The rule for ageing is another one than when what is ready was put in order."""
        turn = self._new_turn()
        turn.cursor(CursorKind.REORDER, 0)
        self._store.begin()
        self._store.conclude(turn, None, {"ageing": self._rules.ageing})
        self._store.commit()

    # One turn

    def _take(self) -> list[facts.Fact]:
        """Everything that arrived meanwhile, up to what one turn may touch; waits when there is nothing to do."""
        taken = self._left
        self._left = []
        if not taken and not self._memory.cursors and not self._memory.again:
            first = self._wait()
            if first is None:
                return taken
            taken.append(first)
        rows = sum(_size(fact) for fact in taken)
        # When much is to be told of ends, more ends would make it more still: what is told comes first.
        most = TURN_ROWS if len(self._memory.cursors) < _MANY_CURSORS else TURN_ROWS // _LEAST_SHARE
        while rows < most:
            try:
                fact = self._inbox.get_nowait()
            except queue.Empty:
                break
            taken.append(fact)
            rows += _size(fact)
        return taken

    def _wait(self) -> facts.Fact | None:
        """The next fact; None when something comes by itself. The house is tidied when none has come for a moment."""
        patience = self._patience()
        with suppress(queue.Empty):
            return self._inbox.get(timeout=_MOMENT if patience is None else min(patience, _MOMENT))
        patience = self._patience()
        while patience != 0.0 and self._inbox.empty() and self._upkeep.tidy(self._store):
            patience = self._patience()
        with suppress(queue.Empty):
            return self._inbox.get(timeout=patience)
        return None

    def _patience(self) -> float | None:
        """Seconds until something comes by itself."""
        return self._deadlines.patience(self._store, self._memory, self._rules, draining=self._draining)

    def turn(self, taken: Sequence[facts.Fact]) -> Effects:
        """Decide some facts in one transaction.

        When something goes wrong everything is as before the turn, in memory too, and the facts are tried one by one, so
        that one of them can't keep the others from being decided.
        """
        self._upkeep.checkpoint(
            self._store, self._memory, self._clocks.steady()
        )  # what the last turn let out comes first
        try:
            return self._try(taken)
        except StoreFull as error:
            return self._when_full(taken, error)
        except StoreError:
            raise
        except Exception:
            if not taken:
                raise  # nothing to blame but ourselves
            log.exception("a turn with %d facts failed; trying them one by one", len(taken))
        return self._one_by_one(taken)

    def _one_by_one(self, taken: Sequence[facts.Fact]) -> Effects:
        for fact in taken:
            try:
                effects = self._try([fact])
            except StoreFull as error:
                effects = self._when_full([fact], error)
            except StoreError:
                raise
            except Exception:
                log.exception("a %s could not be decided", type(fact).__name__)
                parts = _parts(fact)
                effects = self._give_up(fact) if len(parts) == 1 else self._one_by_one(parts)
            self._deliver(effects)
        return Effects(running=len(self._memory.running))

    def _try(self, taken: Sequence[facts.Fact]) -> Effects:
        rules, slots, devices = self._rules, dict(self._memory.slots), self._memory.devices.copy()
        in_batches, in_flight = dict(self._memory.in_batches), self._memory.in_flight()
        self._steering.begin()
        self._memory.calls.begin()
        try:
            return self._decide_all(taken)
        except Exception as error:
            if isinstance(error, StoreFull) or not isinstance(error, StoreError):
                self._rules, self._memory.slots, self._memory.devices = rules, slots, devices
                self._memory.in_batches = in_batches
                self._forget()
                self._memory.still_in_flight(in_flight)
            raise

    def _decide_all(self, taken: Sequence[facts.Fact]) -> Effects:
        turn = self._new_turn()
        rows = Rows(turn, self._store, self._memory)
        self._store.begin()
        for fact in taken:
            self._decide(rows, fact)
        starts, batch = self._conclude(rows, sum(map(_size, taken)))
        self._store.commit()
        if turn.budget_news:
            budgets.log_news(turn)
        self._deadlines.turned_at, self._deadlines.turned_on = turn.steady, turn.now
        self.turns += 1
        self.refused_outcomes += turn.refused_outcomes
        self.free_devices = tuple(self._memory.devices.free_shares().values())
        return Effects(
            starts=starts,
            cancels=turn.cancel_requests,
            retract=turn.retract,
            events=batch,
            logs=turn.log_lines,
            ended=[TaskEnded(t.number, t.flow, t.state, turn.seconds.get(t.number, 0.0)) for t in turn.settled],
            replies=turn.replies,
            gone=turn.gone,
            closed=turn.closed,
            running=len(self._memory.running),
        )

    def _new_turn(self) -> Turn:
        memory = self._memory
        memory.accounts.trim()
        return Turn(
            now=self._clocks.wall(),
            steady=self._clocks.steady(),
            rng=self._rng,
            rules=self._rules,
            lanes=memory.lanes,
            lane_by_key=memory.lane_by_key,
            buckets=memory.buckets,
            queues=memory.queues,
            used=memory.used,
            devices=memory.devices,
            accounts=memory.accounts,
            cursors=memory.cursors,
            awaited=memory.awaited,
            unblocked=memory.unblocked,
        )

    def _write(self, turn: Turn) -> None:
        """Put what is decided so far into the transaction, so that what follows can read it there."""
        turn.wake_flows()
        enqueue(turn, self._memory)
        if turn.decided:
            self._deadlines.note(turn, self._memory)
            self._store.write(turn)
            turn.forget_decisions()

    def _conclude(self, rows: Rows, touched: int) -> tuple[list[Start], EventBatch | None]:
        """What follows from what was decided: cursors, due times, starts; and the events of all of it."""
        turn, memory = rows.turn, self._memory
        if memory.stops:
            stop_failing(rows)
        self._write(turn)
        self._steering.advance(rows, max(TURN_ROWS // _LEAST_SHARE, TURN_ROWS - touched, 1), lambda: self._write(turn))
        self._write(turn)
        self._deadlines.carry_out(rows, draining=self._draining)
        self._write(turn)
        if turn.settled and (memory.carriers or turn.accounts.reservations):
            batches.follow(rows)
            self._write(turn)
        memory.again = False
        starts: list[Start] = []
        if self._starting and not self._draining:
            if memory.elsewhere:  # before: what has become free is for who comes first, also from elsewhere
                detour(rows)
                self._write(turn)
            starts = dispatch(rows, TURN_ROWS)
            if memory.elsewhere:
                detour(rows)
        self._write(turn)
        batch = None
        if turn.events:
            batch = EventBatch(memory.next_event, turn.now, turn.events, memory.ordinals)
            memory.next_event += len(turn.events)
            memory.ordinals = batch.ordinals_after
            self._deadlines.keep(turn, memory)
        meta: dict[str, float] = {}
        if batch is not None:
            meta.update(steady=turn.steady, wall=turn.now)
        if turn.started:
            meta["virtual_time"] = memory.virtual_time
        meta.update(turn.figures)
        if turn.queued_bytes:
            memory.queued_bytes += turn.queued_bytes
            meta["queued_bytes"] = memory.queued_bytes
        if turn.changed_ledgers:
            self._store.limits.put(turn.changed_ledgers.values())
        self._store.conclude(turn, batch, meta)
        return starts, batch

    # Deciding

    def _decide(self, rows: Rows, fact: facts.Fact) -> None:
        turn = rows.turn
        match fact:
            case facts.AttemptsEnded(ended):
                end_attempts(rows, ended)
            case facts.Submit():
                self._submit(rows, fact)
            case facts.TakenBack(attempts):
                take_back(rows, attempts)
            case facts.LogLines(lines):
                turn.logs.extend(lines)
                turn.log_lines.extend(lines)
            case facts.Cancel():
                self._answer(rows, fact.reply, lambda: self._steering.cancel(rows, fact))
            case facts.Retry():
                self._answer(rows, fact.reply, lambda: self._steering.retry(rows, fact))
            case facts.Discard():
                self._answer(rows, fact.reply, lambda: self._steering.discard(rows, fact))
            case facts.Hold():
                self._answer(rows, fact.reply, lambda: self._steering.hold(rows, fact))
            case facts.Release():
                self._answer(rows, fact.reply, lambda: self._steering.release(rows, fact))
            case facts.Edit():
                self._answer(rows, fact.reply, lambda: self._steering.edit(rows, fact))
            case facts.Delete():
                self._answer(rows, fact.reply, lambda: self._steering.delete(rows, fact))
            case facts.SetQueue():
                set_queue(rows, fact)
            case facts.SetValue():
                self._answer(rows, fact.reply, lambda: values.set_value(rows, fact))
            case facts.DeleteValue():
                self._answer(rows, fact.reply, lambda: values.delete_value(rows, fact))
            case facts.ChangeBudget():
                self._write(turn)  # what this turn has recorded so far counts
                self._answer(rows, fact.reply, lambda: budgets.change(rows, fact))
            case facts.RemoveBudget():
                self._answer(rows, fact.reply, lambda: budgets.remove(rows, fact))
            case facts.SleepLimit():
                self._answer(rows, fact.reply, lambda: sleep_limit(rows, fact))
            case facts.BeginCall():
                self._answer(rows, fact.reply, lambda: cache.begin(rows, fact))
            case facts.LeaveCall():
                self._answer(rows, fact.reply, lambda: cache.leave(rows, fact))
            case facts.BatchCall():
                self._answer(rows, fact.reply, lambda: batches.carry_out(rows, fact))
            case facts.ClearCache():
                self._answer(rows, fact.reply, lambda: cache.clear(rows))
            case facts.SetLimit():
                self._answer(rows, fact.reply, lambda: set_limit(rows, fact))
            case facts.AskLimits():
                self._answer(rows, fact.reply, lambda: ask_limits(rows, fact))
            case facts.AddSchedule():
                self._answer(rows, fact.reply, lambda: add_schedule(rows, fact))
            case facts.PauseSchedule():
                self._answer(rows, fact.reply, lambda: pause_schedule(rows, fact))
            case facts.RemoveSchedule():
                self._answer(rows, fact.reply, lambda: remove_schedule(rows, fact))
            case facts.ClockSet():
                log.info("the wall clock was set")
                for bucket in self._memory.buckets.values():
                    release(bucket)  # who waits for a day to turn waits for another moment
                self._memory.times_known = False
                # A restart must not take the jump for time that has passed.
                turn.figures.update(steady=turn.steady, wall=turn.now)
            case facts.Configure(reply, changes, rules):
                turn.settings.update(changes)
                before, self._rules, turn.rules = turn.rules, rules, rules
                if rules.limits != before.limits:
                    for bucket in self._memory.buckets.values():
                        release(bucket)  # who waits for a figure waits for another one, perhaps
                if rules.day_budget != before.day_budget or turn.accounts.active:
                    budgets.follow_settings(rows)
                    if rules.prices != before.prices:
                        budgets.prices_changed(rows)
                self._upkeep.forget()
                self._memory.times_known = False
                turn.replies.append((reply, {}))
            case facts.SlotUp() | facts.SlotStopping() | facts.SlotDown():
                change_slot(rows, fact)
            case facts.MemoryTight(tight):
                self._memory.tight = self.memory_tight = tight
                if tight:
                    turn.take_back(Retract.ALL)
            case facts.Devices(ids):
                self._memory.devices.replace(ids)
            case facts.Catalogue(handlers):
                self._memory.handlers = {handler.type: handler for handler in handlers}
                turn.catalogue = handlers
                turn.cursor(CursorKind.UNHANDLED, 0)
            case facts.Starts(reply, on):
                self._starting = on
                if not on:
                    turn.take_back(Retract.ALL)
                turn.replies.append((reply, {}))
            case facts.Drain():
                self._draining = True
                turn.take_back(Retract.ALL)
            case facts.Ping(reply):
                turn.replies.append((reply, {}))
            case facts.Stop():
                self._stopping = True

    def _answer(self, rows: Rows, reply: facts.Reply, decide: Callable[[], Mapping[str, Any] | None]) -> None:
        self._write_new(rows.turn)
        try:
            body = decide()
        except Refused as refused:
            rows.turn.replies.append((reply, refused))
        else:
            if body is not None:
                rows.turn.replies.append((reply, dict(body)))

    def _submit(self, rows: Rows, fact: facts.Submit) -> None:
        self._upkeep.look_at_disk(self._store, self._memory, rows.turn.rules, rows.turn.steady)
        try:
            rows.turn.replies.append((fact.reply, submit(rows, fact, accepting=not self._draining)))
        except Refused as refused:
            if (
                refused.code in ("unknown_dependency", "duplicate_id", "duplicate_key", "invalid_value", "no_price")
                and fact.grow is None
            ):
                # Stored whole or not at all: what came before of this flow goes too.
                self._write_new(rows.turn)
                if self._steering.discard_open(rows, fact.submission, fact.reply, refused):
                    return
            rows.turn.replies.append((fact.reply, refused))

    def _write_new(self, turn: Turn) -> None:
        """What people steer is looked for in the store: what this turn has added must be there."""
        if turn.new_flows or turn.new_tasks:
            self._write(turn)

    # When something goes wrong

    def _forget(self) -> None:
        self._store.rollback()
        self._steering.forget()
        self._memory.calls.forget()
        self._upkeep.forget()
        self._memory.load(self._store.load())

    def _give_up(self, fact: facts.Fact) -> Effects:
        """A fact that can't be decided is dropped when a client asked for it; without one of our own nothing would be right.

        Raises:
            StoreError: it is one of our own.
        """
        match fact:
            case facts.AttemptsEnded([Ended(outcome=Outcome.PERMANENT)]):
                raise StoreError("what became of an attempt can't be recorded")  # else its task would run for ever
            case facts.AttemptsEnded([ended]):
                error = {
                    "class": "Internal",
                    "code": "internal",
                    "message": f"its outcome {ended.outcome.word} can't be stored",
                }
                return self.turn(
                    [facts.AttemptsEnded([Ended(ended.task, ended.token, Outcome.PERMANENT, msgpack.packb(error))])]
                )
            case facts.LogLines(lines):  # counted as stored, so that the worker is listened to again
                return Effects(logs=lines, running=len(self._memory.running))
            case (
                facts.Submit() | facts.Cancel() | facts.Retry() | facts.Discard() | facts.Configure()
                | facts.Hold() | facts.Release() | facts.Edit() | facts.Delete() | facts.SetQueue()
                | facts.ChangeBudget() | facts.RemoveBudget() | facts.SetValue() | facts.DeleteValue() | facts.SleepLimit() | facts.Starts()
                | facts.SetLimit() | facts.AskLimits()
                | facts.AddSchedule() | facts.PauseSchedule() | facts.RemoveSchedule()
                | facts.BeginCall() | facts.LeaveCall() | facts.BatchCall() | facts.ClearCache()
            ):  # fmt: skip
                refused = Refused("internal", "a defect of the daemon; its log has the traceback")
                return Effects(replies=[(fact.reply, refused)], running=len(self._memory.running))
        raise StoreError(f"a {type(fact).__name__} can't be decided")

    def _when_full(self, taken: Sequence[facts.Fact], error: StoreFull) -> Effects:
        """Refuse what would add to the queue; the rest goes into the room that was kept for it, or waits until there is some."""
        self._upkeep.disk_is_full(self._memory, self._clocks.steady())
        effects = Effects(running=len(self._memory.running))
        rest: list[facts.Fact] = []
        for fact in taken:
            if isinstance(fact, facts.Submit | facts.AddSchedule | facts.SetValue):
                effects.replies.append((fact.reply, Refused("disk_full", "the disk is full; nothing was stored")))
            elif isinstance(fact, facts.Ping):
                effects.replies.append((fact.reply, {}))
            else:
                rest.append(fact)
        if self._store.upkeep.drop_ballast():
            log.error("%s; submissions are refused, the rest goes into what was kept free for it", error)
            self._deliver(effects)
            return self.turn(rest)
        log.error("%s; submissions are refused, the rest is tried again in %g s", error, _FULL_PAUSE)
        self._left += rest
        threading.Event().wait(_FULL_PAUSE)
        return effects


def _log_turn(taken: Sequence[facts.Fact], effects: Effects, seconds: float) -> None:
    kinds = Counter(type(fact).__name__ for fact in taken)
    log.debug(
        "turn of %.1f ms: %s; %d starts, %d ended, %d events, %d running",
        seconds * 1e3,
        ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "no facts",
        len(effects.starts),
        len(effects.ended),
        len(effects.events.events) if effects.events is not None else 0,
        effects.running,
    )


def _parts(fact: facts.Fact) -> list[facts.Fact]:
    """A fact that is about several attempts, as one fact for each."""
    match fact:
        case facts.AttemptsEnded(ended):
            return [facts.AttemptsEnded([one]) for one in ended]
        case facts.TakenBack(attempts):
            return [facts.TakenBack([one]) for one in attempts]
    return [fact]


def _size(fact: facts.Fact) -> int:
    """About how many rows a fact touches."""
    if isinstance(fact, facts.Submit):
        return 1 + len(fact.tasks)
    if isinstance(fact, facts.AttemptsEnded):
        return len(fact.ended)
    if isinstance(fact, facts.BatchCall) and isinstance(fact.wish, Answers):
        return len(fact.wish.answers)
    if isinstance(fact, facts.SetValue):
        return 1 + len(fact.value) // _ROW_BYTES
    return 1
