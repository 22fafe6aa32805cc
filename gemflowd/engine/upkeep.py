"""Keeping house: what is old goes, the log is carried over, room on the disk is looked after. In small steps, and only when
its time has come: a round begins when the first thing is old enough, at most one a minute, and takes as many turns as it needs.

Does not cover: how it is stored (`store.base.Upkeep`), how a flow is removed (`engine.cursors`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final

from gemflowd.core.turn import CursorKind
from gemflowd.engine.clocks import Clocks
from gemflowd.engine.memory import Memory
from gemflowd.engine.rows import Rows
from gemflowd.engine.steering import Steering
from gemflowd.model.errors import StoreFull
from gemflowd.model.rules import Rules
from gemflowd.model.states import FlowState
from gemflowd.store.base import Store

log = logging.getLogger("gemflow.queue")

#: Seconds between two rounds, from the end of one to the beginning of the next.
ROUND_EVERY: Final = 60.0
#: Flows that are hidden, turns whose events are removed, keys that are forgotten in one turn.
_FLOWS: Final = 50
_EVENTS: Final = 200
_KEYS: Final = 500
#: Seconds of one step while nothing else is to be done.
_STEP: Final = 0.01
#: Seconds between two looks at the disk.
_LOOK_EVERY: Final = 1.0
_NOWHERE: Final = (-math.inf, 0)


class Upkeep:
    """
    Args:
        free_bytes: what is free where the database lies; None where that doesn't matter (tests).
    """

    def __init__(self, free_bytes: Callable[[], int] | None = None) -> None:
        self._free_bytes = free_bytes
        self._going = False  # a round has begun
        self._position = _NOWHERE  # of this round, among the flows that have ended
        self._ended = -math.inf  # the last round, steady
        self._looked = -math.inf

    def forget(self) -> None:
        """A turn failed, or the rules have changed: what is left of the round is found anew."""
        self._position = _NOWHERE
        self._ended = -math.inf

    # What is old

    def next_time(self, store: Store, rules: Rules, clocks: Clocks) -> float | None:
        """When the next step is to be taken, by the steady clock."""
        if self._going:
            return -math.inf
        oldest = store.upkeep.oldest()
        times = []
        if oldest.flow is not None and rules.keep_flows:
            times.append(oldest.flow + rules.keep_flows)
        if oldest.events is not None and rules.keep_events:
            times.append(oldest.events + rules.keep_events + clocks.steady() - clocks.wall())
        if oldest.key is not None:
            times.append(oldest.key)
        return max(min(times), self._ended + ROUND_EVERY) if times else None

    def keep_house(self, rows: Rows, steering: Steering) -> None:
        """One turn's share of a round."""
        turn, store = rows.turn, rows.store.upkeep
        more = self._old_flows(rows, steering)
        if turn.rules.keep_events and store.trim_events(turn.now - turn.rules.keep_events, _EVENTS):
            more = True
        if store.trim_keys(turn.steady, _KEYS):
            more = True
        self._going = more
        if not more:
            self._ended = turn.steady

    def _old_flows(self, rows: Rows, steering: Steering) -> bool:
        """Delete some flows that ended long ago and that nobody waits for. Returns whether there may be more."""
        turn = rows.turn
        if not turn.rules.keep_flows:
            return False
        if (CursorKind.DELETE, 0) in turn.cursors:
            return True  # first what is hidden is removed, so that there is never much of it
        found = rows.store.upkeep.ended_flows(self._position, turn.steady - turn.rules.keep_flows, _FLOWS)
        for _, number in found:
            flow = rows.flow(number)
            if flow is not None and FlowState(flow.state).terminal and not rows.store.keys.claimed(number):
                steering.delete_flow(rows, flow)
        self._position = found[-1] if len(found) == _FLOWS else _NOWHERE
        return len(found) == _FLOWS

    # The log, and the file

    def checkpoint(self, store: Store, memory: Memory, now: float) -> None:
        """Carry the log over, if it is long. What was kept free is not for this, which may take all of it, but for the outcomes of
        what runs.

        Raises:
            StoreError: the disk can't be trusted any more.
        """
        try:
            store.upkeep.checkpoint()
        except StoreFull as error:  # nothing is lost: all of it is in the log still
            self.disk_is_full(memory, now)
            log.error("the log can't be carried over into the database: %s", error)  # noqa: TRY400

    def tidy(self, store: Store) -> bool:
        """One small step while there is nothing else to do. Returns whether there is another one."""
        try:
            return store.upkeep.tidy(_STEP)
        except StoreFull:
            return False  # it takes room to give room back; there will be another time

    # Room

    def look_at_disk(self, store: Store, memory: Memory, rules: Rules, now: float) -> None:
        """Whether there is room for something new, and for the ballast if it was needed; asked when a submission comes."""
        if self._free_bytes is None or now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        low = self._free_bytes() < rules.min_free_bytes + store.upkeep.ballast_bytes or not store.upkeep.keep_ballast()
        if low and not memory.disk_low:
            log.warning("the disk is nearly full (min_free_mb); submissions are refused, running work goes on")
        memory.disk_low = low

    def disk_is_full(self, memory: Memory, now: float) -> None:
        """A write has failed for want of room. Removing takes some too: the outcomes of running attempts go first."""
        memory.disk_low = self._free_bytes is not None  # else nobody could tell that there is room again
        self._looked = self._ended = now
        self._going = False
