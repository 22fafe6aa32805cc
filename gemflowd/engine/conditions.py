"""Tasks whose dependencies are all settled and that have a `when`: it is evaluated here, once."""

from __future__ import annotations

from typing import Any

import msgpack

from gemflowd import conditions
from gemflowd.core import machine
from gemflowd.engine.rows import Rows
from gemflowd.model.states import State
from gemflowd.model.task import UNMET, Task


def judge(rows: Rows) -> None:
    """Let each go on, or skip it with the reason."""
    waiting = {task.number: task for task in rows.turn.to_judge if not task.state.terminal and not task.waiting}
    rows.turn.to_judge.clear()
    if not waiting:
        return
    expressions = rows.store.links.conditions(list(waiting))
    for number, task in waiting.items():
        reason = _why_not(rows, task, expressions[number])
        if reason is None:
            machine.proceed(rows.turn, task, judged=True)
        else:
            task.flags |= UNMET
            rows.turn.move(task, State.SKIPPED, reason[:1000])


def _why_not(rows: Rows, task: Task, expression: str) -> str | None:
    ends = rows.store.links.ends(task.number)
    size = sum(size for *_, size in ends)
    if size > conditions.MAX_RESULT_BYTES:
        return f"when: the results of its dependencies have {size} bytes, at most {conditions.MAX_RESULT_BYTES} are looked at"
    try:
        deps = _seen(rows, task, ends)
        return None if conditions.evaluate(expression, deps) else f"when: {expression}"
    except (conditions.ConditionFailed, ValueError) as error:  # the latter: a result that is no MessagePack
        return f"when: {error} ({expression})"


def _seen(rows: Rows, task: Task, ends: list[tuple[int, str | None, State, int]]) -> dict[str, Any]:
    """What an expression sees."""
    results = {number: value for number, _, value in rows.store.inputs([task.number])[task.number]}
    failed = [number for number, _, state, _ in ends if state in (State.FAILED, State.QUARANTINED)]
    errors = rows.store.links.errors(failed) if failed else {}
    names = [name for _, name, _, _ in ends]
    deps: dict[str, Any] = {}
    for number, name, state, _ in ends:
        seen: dict[str, Any] = {"state": state.word, "ok": state is State.SUCCEEDED}
        if number in results:
            seen["result"] = msgpack.unpackb(results[number], strict_map_key=False)
        if number in errors:
            error = msgpack.unpackb(errors[number], strict_map_key=False)
            seen["error"] = {key: error[key] for key in ("class", "code", "message") if key in error}
        deps[name if name is not None and names.count(name) == 1 else str(number)] = seen
    return deps
