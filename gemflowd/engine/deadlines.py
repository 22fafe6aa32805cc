"""What comes by itself: tasks that fall due or expire, flows that stay open, runs of schedules, keeping house; and when the
next of them does, so that the engine sleeps until then."""

from __future__ import annotations

import logging
import math
from typing import Final

from gemflowd.core import machine
from gemflowd.core.budgets import begin_day
from gemflowd.core.limits import waking
from gemflowd.core.turn import CursorKind, Turn
from gemflowd.engine import cache, values
from gemflowd.engine.clocks import Clocks
from gemflowd.engine.memory import Memory
from gemflowd.engine.rows import Rows
from gemflowd.engine.schedules import run_schedules
from gemflowd.engine.steering import Steering
from gemflowd.engine.upkeep import Upkeep
from gemflowd.model.rules import Rules
from gemflowd.model.states import FlowState
from gemflowd.store.base import Store

log = logging.getLogger("gemflow.queue")

#: Tasks of each kind that fall due in one turn.
_MOST: Final = 1_200


class Deadlines:
    def __init__(self, clocks: Clocks, steering: Steering, upkeep: Upkeep) -> None:
        self._clocks = clocks
        self._steering = steering
        self._upkeep = upkeep
        self.turned_at = 0.0  # the steady time that the last turn knew: what wakes up after it needs another one
        self.turned_on = 0.0  # the same by the wall clock

    def patience(self, store: Store, memory: Memory, rules: Rules, *, draining: bool) -> float | None:
        """Seconds until the next one; also until a limit wakes up. None: there is none."""
        if memory.unblocked and not draining:
            return 0.0
        steady, wall = self._next(store, memory, rules, draining=draining)
        times = [until for bucket in memory.buckets.values() for until in waking(bucket) if until > self.turned_at]
        days = [bucket.wakes_wall for bucket in memory.buckets.values() if bucket.wakes_wall > self.turned_on]
        if days:
            wall = min(*days, math.inf if wall is None else wall)
        if steady is not None:
            times.append(steady)
        left = [min(times) - self._clocks.steady()] if times else []
        if (day := memory.accounts.wakes()) is not None and not draining:
            wall = min(day, wall or math.inf)
        if wall is not None:
            left.append(wall - self._clocks.wall())
        return max(0.0, min(left)) if left else None

    def note(self, turn: Turn, memory: Memory) -> None:
        """Before what a turn has decided is written: something of it may come by itself before all that was known.

        What is known is never too late, and may be too early: who looks then finds nothing, and what is really next.
        """
        if turn.timed or any(flow.state == FlowState.OPEN for flow in turn.new_flows):
            memory.times_known = False

    def keep(self, turn: Turn, memory: Memory) -> None:
        """The same of what every turn with events adds to what is kept for so long: the events, and flows that have ended."""
        kept = [seconds for seconds in (turn.rules.keep_flows, turn.rules.keep_events) if seconds]
        if kept:
            first, wall = memory.next_times
            memory.next_times = min(math.inf if first is None else first, turn.steady + min(kept)), wall

    def _next(self, store: Store, memory: Memory, rules: Rules, *, draining: bool) -> tuple[float | None, float | None]:
        """The next deadlines of stored things, by the steady and by the wall clock."""
        if not memory.times_known:
            oldest = store.oldest_open_flow()
            times = (
                store.next_times(wall=False),
                store.values.next_expiry(),
                oldest and oldest[1] + rules.open_expires,
                self._upkeep.next_time(store, rules, self._clocks),
                cache.next_time(store, memory, rules),
            )
            first = min((time for time in times if time is not None), default=None)
            memory.next_times, memory.times_known = (first, store.next_times(wall=True)), True
        first, wall = memory.next_times
        if memory.next_run is not None and not draining:
            wall = min(memory.next_run, wall or math.inf)
        return first, wall

    def carry_out(self, rows: Rows, *, draining: bool) -> None:
        """What is due, what has expired, values of the shared memory too, flows whose next chunk never came, and runs of schedules."""
        turn, store, memory = rows.turn, rows.store, rows.memory
        if turn.accounts.wide:
            begin_day(turn)
        next_times = self._next(store, memory, turn.rules, draining=draining)
        for clock, now, next_time in zip((False, True), (turn.steady, turn.now), next_times, strict=True):
            if next_time is not None and next_time <= now:
                for task in rows.adopt(store.expired(now, _MOST, wall=clock)):
                    machine.expire(turn, task)
                for task in rows.adopt(store.due(now, _MOST, wall=clock)):
                    machine.due(turn, task)
                if not clock:
                    self._keep_house(rows)
                    values.expire(rows)
                    self._give_up_open(rows)
                    cache.prune(rows)
                memory.times_known = False
        if not draining:
            if memory.next_run is not None and memory.next_run <= turn.now:  # a run is a submission
                self._upkeep.look_at_disk(store, memory, turn.rules, turn.steady)
            run_schedules(rows)

    def _give_up_open(self, rows: Rows) -> None:
        """The flow that was open for the longest time without another chunk, if that is too long."""
        turn = rows.turn
        oldest = rows.store.oldest_open_flow()
        if oldest is not None and oldest[1] + turn.rules.open_expires <= turn.steady:
            flow = rows.flow(oldest[0])
            if flow is not None and (CursorKind.DISCARD, flow.number) not in turn.cursors:
                log.warning("flow f%d was open for too long without another chunk", flow.number)
                self._steering.expire_open(rows, flow)

    def _keep_house(self, rows: Rows) -> None:
        at = self._upkeep.next_time(rows.store, rows.turn.rules, self._clocks)
        if at is not None and at <= rows.turn.steady:
            self._upkeep.keep_house(rows, self._steering)
