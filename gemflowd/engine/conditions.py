"""Tasks whose dependencies are all settled and that have a `when`: it is evaluated here, once, some a turn."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgpack

from gemflowd import conditions
from gemflowd.core import machine
from gemflowd.engine.rows import Rows
from gemflowd.model.states import State
from gemflowd.model.task import JUDGED, JUDGING, UNMET, Hold, Task

#: Tasks that are looked at in one go, and what evaluating costs, as rows: at least so many, and one for so many bytes of results.
_SOME: Final = 20
_COST: Final = 10
_BYTES_A_ROW: Final = 64

Ends = list[tuple[int, str | None, State, int]]


def judge(rows: Rows, budget: int) -> tuple[int, bool]:
    """Let tasks go on, or skip them with the reason. Returns what that cost, in rows, and whether no task is left."""
    tasks = rows.adopt(rows.store.judging(_SOME))
    expressions = rows.store.links.conditions([task.number for task in tasks])
    used = 0
    for task in tasks:
        if used >= budget:
            return used, False
        if task.flags & JUDGING and task.state in (State.BLOCKED, State.HELD) and task.hold == Hold.NONE:
            used += _judge(rows, task, expressions[task.number])
    return used, len(tasks) < _SOME


def _judge(rows: Rows, task: Task, expression: str) -> int:
    task.flags &= ~JUDGING
    rows.turn.changed[task.number] = task
    ends = rows.store.links.ends(task.number)
    size = sum(size for *_, size in ends)
    reason = _why_not(rows, task, expression, ends, size)
    if reason is None:
        task.flags |= JUDGED
        machine.proceed(rows.turn, task)
    else:
        task.flags |= UNMET
        rows.turn.move(task, State.SKIPPED, reason[:1000])
    return _COST + len(ends) + min(size, conditions.MAX_RESULT_BYTES) // _BYTES_A_ROW


def _why_not(rows: Rows, task: Task, expression: str, ends: Ends, size: int) -> str | None:
    most = conditions.most_bytes(expression, len(ends))
    if size > most:
        return f"when: the results of its dependencies have {size} bytes, at most {most} are looked at"
    try:
        deps = _seen(rows, task, ends)
        return None if conditions.evaluate(expression, deps) else f"when: {expression}"
    except (conditions.ConditionFailed, ValueError) as error:  # the latter: a result that is no MessagePack
        return f"when: {error} ({expression})"


def _seen(rows: Rows, task: Task, ends: Ends) -> dict[str, Any]:
    """What an expression sees."""
    results = {number: value for number, _, value in rows.store.inputs([task.number])[task.number]}
    failed = [number for number, _, state, _ in ends if state in (State.FAILED, State.QUARANTINED)]
    errors = rows.store.links.errors(failed) if failed else {}
    often = Counter(name for _, name, _, _ in ends)
    deps: dict[str, Any] = {}
    for number, name, state, _ in ends:
        seen: dict[str, Any] = {"state": state.word, "ok": state is State.SUCCEEDED}
        if number in results:
            seen["result"] = msgpack.unpackb(results[number], strict_map_key=False)
        if number in errors:
            error = msgpack.unpackb(errors[number], strict_map_key=False)
            seen["error"] = {key: str(error[key])[:1000] for key in ("class", "code", "message") if key in error}
        deps[name if name is not None and often[name] == 1 else str(number)] = seen
    return deps
