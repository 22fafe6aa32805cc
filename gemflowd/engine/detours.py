"""Tasks that name other models, whose own lets nothing start for long: they go on under the limit of the next one that can be had.

Each gets an attempt on its record that has asked nobody: there lies what the next one has to know, as after an answer that said the
same. Does not cover what a call's own 429 means for its task (`core.another_way`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgpack

from gemflowd.core import limits, machine
from gemflowd.core.lanes import Key, key_of
from gemflowd.core.turn import Turn
from gemflowd.engine.dispatch import is_ready, refill
from gemflowd.engine.rows import Rows
from gemflowd.model.lane import Lane, LaneKey, other_limits
from gemflowd.model.prices import model_of
from gemflowd.model.task import Task

#: Tasks of one lane in one turn.
_MOST: Final = 200
#: A priority for which whatever is reserved counts, and one for which nothing is.
_HIGHEST: Final = 2**31
_LOWEST: Final = -(2**31)


def detour(rows: Rows) -> None:
    """Let some of them go on: no more than may start there about now, since they don't come back. They start in the next turn."""
    turn, memory = rows.turn, rows.memory
    for number in memory.elsewhere & memory.live:
        lane = turn.lanes.get(number)
        if lane is None:
            memory.elsewhere.discard(number)  # its flow was discarded
        elif lane.open and _is_away(turn, lane.key.bucket, _LOWEST):
            other = next((name for name in other_limits(lane.key) if not _is_away(turn, name, _HIGHEST)), None)
            if other is not None and not _is_waited_for(rows, replace(lane.key, bucket=other)):
                _some(rows, lane, other)


def _is_waited_for(rows: Rows, key: LaneKey) -> bool:
    """Whether somebody stands in that lane already."""
    own = rows.turn.lane_by_key.get(key)
    if own is None or own.number not in rows.memory.live:
        return False
    window = rows.memory.windows.get(own.number)
    return window is not None and (window.head() is not None or window.must_fill)


def _some(rows: Rows, lane: Lane, other: str) -> None:
    turn, memory = rows.turn, rows.memory
    refill(rows, lane.number)
    window = memory.windows[lane.number]
    most = min(
        _MOST, max(1, limits.room(turn, other))
    )  # one that waits there is woken in time, and the next ones follow
    keys: list[Key] = []
    while len(keys) < most and window.head() is not None:
        keys.append(window.pop())
    found = rows.tasks([key[2] for key in keys])
    for index, key in enumerate(keys):
        task = found.get(key[2])
        if task is None or not is_ready(task, lane.number) or key != key_of(task, lane):
            continue  # ended, moved or edited since the window was filled
        flow = turn.flows[task.flow]
        stays = not _is_away(turn, lane.key.bucket, task.priority) or _is_away(turn, other, task.priority)
        if stays or flow.cancelled or flow.on_hold:
            for left in keys[index:]:  # who comes first starts first, also elsewhere
                window.push(left)
            return
        _go_on(turn, task, lane, other)
        memory.again = True
    memory.again = memory.again or window.must_fill


def _is_away(turn: Turn, name: str | None, priority: int) -> bool:
    return name is not None and limits.is_away(turn, name, priority)


def _go_on(turn: Turn, task: Task, lane: Lane, other: str) -> None:
    message = f"{lane.key.bucket} lets nothing start for long; {other} is asked"
    instead = {"note": {"model": model_of(other)}, "bucket": other}
    error = {"class": "RateLimited", "code": "daily_quota", "message": message, "instead": instead}
    machine.go_elsewhere(turn, task, msgpack.packb(error), other, message)
