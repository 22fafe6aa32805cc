"""Tasks that name other models, whose own lets nothing start for long: they go on under the limit of the next one that can be had.

Each gets an attempt on its record that has asked nobody: there lies what the next one has to know, as after an answer that said the
same. Does not cover what a call's own 429 means for its task (`core.another_way`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgpack

from gemflowd.core import limits, machine
from gemflowd.core.budgets import those_of
from gemflowd.core.lanes import Key, key_of
from gemflowd.core.placement import WHOLE_SLOT
from gemflowd.core.turn import Turn
from gemflowd.engine.budgets import need, set_apart, shut
from gemflowd.engine.dispatch import is_ready, refill
from gemflowd.engine.rows import Rows
from gemflowd.model.attempt import Kind
from gemflowd.model.lane import Lane, other_limits
from gemflowd.model.prices import model_of
from gemflowd.model.task import Task

#: Tasks of one lane in one turn.
_MOST: Final = 200
#: A priority for which whatever is reserved counts, and one for which nothing is.
_HIGHEST: Final = 2**31
_LOWEST: Final = -(2**31)


def detour(rows: Rows) -> None:
    """Let some of them go on: no more than may start there about now, since they don't come back."""
    turn, memory = rows.turn, rows.memory
    for number in memory.elsewhere & memory.live:
        lane = turn.lanes.get(number)
        if lane is None:
            memory.elsewhere.discard(number)  # its flow was discarded
        elif (
            _is_away(turn, lane.key.bucket, _LOWEST)
            and limits.has_place(turn, lane)
            and (free := _free(rows, lane.key.kind))
        ):
            others = [name for name in other_limits(lane.key) if not _is_away(turn, name, _HIGHEST)]
            if others and any(not _is_waited_for(rows, lane, name) for name in others):
                _some(rows, lane, others, free)


def _is_waited_for(rows: Rows, lane: Lane, other: str) -> bool:
    """Whether somebody stands there already who comes before the first of the lane."""
    memory = rows.memory
    there = rows.turn.lane_by_key.get(replace(lane.key, bucket=other))
    window = None if there is None or there.number not in memory.live else memory.windows.get(there.number)
    if window is None:
        return False
    refill(rows, lane.number)
    first, ahead = memory.windows[lane.number].head(), window.head()
    return window.must_fill if first is None or ahead is None else ahead < first


def _some(rows: Rows, lane: Lane, others: Sequence[str], free: int) -> None:
    """The first of a lane, and those after it that may go where that one goes."""
    turn, memory = rows.turn, rows.memory
    first = _first(rows, lane)
    other = None if first is None else _other(turn, others, first.priority)
    if first is None or other is None:
        return
    there = replace(lane, key=replace(lane.key, bucket=other))
    if _is_waited_for(rows, lane, other) or (turn.accounts.active and shut(rows, there)):
        return
    window, most = memory.windows[lane.number], _room(turn, there, first.priority, free)
    keys: list[Key] = []
    while len(keys) < most and window.head() is not None:
        keys.append(window.pop())
    found = rows.tasks([key[2] for key in keys])
    if turn.accounts.active:
        need(rows, found.values())
    for index, key in enumerate(keys):
        task = found.get(key[2])
        if task is None or not _stands(task, lane, key):
            continue
        flow = turn.flows[task.flow]
        stays = not _is_away(turn, lane.key.bucket, task.priority) or _other(turn, others, task.priority) != other
        holds = turn.accounts.active and any(budget.state for budget in those_of(turn, task, there))
        if stays or flow.cancelled or flow.on_hold or (holds and lane.key.gate == task.flow):
            for left in keys[index:]:  # who comes first starts first, also elsewhere
                window.push(left)
            break
        if holds:
            set_apart(turn, task, lane)  # nobody waits behind it
        else:
            _go_on(turn, task, lane, other)
        memory.again = True
    memory.again = memory.again or window.must_fill


def _first(rows: Rows, lane: Lane) -> Task | None:
    """The first task of a lane that is still there."""
    refill(rows, lane.number)
    window = rows.memory.windows[lane.number]
    while (key := window.head()) is not None:
        task = rows.tasks([key[2]]).get(key[2])
        if task is not None and _stands(task, lane, key):
            return task
        window.pop()
    rows.memory.again = rows.memory.again or window.must_fill
    return None


def _stands(task: Task, lane: Lane, key: Key) -> bool:
    """Whether it has not ended, moved or been edited since the window was filled."""
    return is_ready(task, lane.number) and key == key_of(task, lane)


def _other(turn: Turn, others: Sequence[str], priority: int) -> str | None:
    """The first that lets something of that priority start: some of a limit may be for higher ones."""
    return next((name for name in others if not _is_away(turn, name, priority)), None)


def _free(rows: Rows, kind: Kind) -> int:
    """How many tasks the slots of a kind take now."""
    memory = rows.memory
    if kind is Kind.BLOCKING and memory.tight:
        return 0
    free = sum(slot.room(WHOLE_SLOT) for slot in memory.slots.values() if slot.kind is kind)
    return free if rows.turn.rules.enabled else max(0, min(free, 1 - len(memory.running)))


def _room(turn: Turn, there: Lane, priority: int, free: int) -> int:
    """How many of that priority may start there about now. At least one, if nothing but the limit is in its way: one that waits
    there is woken in time, and the next ones follow."""
    room, found = limits.Room(turn, {there.number: there}, priority), 0
    while found < min(_MOST, free) and room.take(there.number):
        found += 1
    return found


def _is_away(turn: Turn, name: str | None, priority: int) -> bool:
    return name is not None and limits.is_away(turn, name, priority)


def _go_on(turn: Turn, task: Task, lane: Lane, other: str) -> None:
    message = f"{lane.key.bucket} lets nothing start for long; {other} is asked"
    instead = {"note": {"model": model_of(other)}, "bucket": other}
    error = {"class": "RateLimited", "code": "daily_quota", "message": message, "instead": instead}
    machine.go_elsewhere(turn, task, msgpack.packb(error), other, message)
