"""An attempt that ends to wait: its task goes on when tasks that it has added to its flow have ended, and holds no slot until then.

The dependencies are made in the turn that records the attempt's end, so there is no moment in which the task waits and nothing would tell
it. Does not cover how the tasks were added (`engine.submission`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgpack

from gemflowd.core import another_way
from gemflowd.engine.rows import Rows
from gemflowd.model.attempt import Ended, Outcome
from gemflowd.model.states import On, State
from gemflowd.model.task import Dependency, Task

#: Tasks that one attempt may wait for, and those that are looked at to see whether one of them waits for it.
MOST: Final = 500
_LOOKED_AT: Final = 2_000


def wait_for_added(rows: Rows, task: Task, ended: Ended) -> Ended:
    """Make the dependencies of a task whose attempt ends to wait; from now on `task.waiting` says how many are open.

    Returns:
        The end of the attempt: a `permanent` one, with code `bad_wait`, where it can't wait for what it names.
    """
    numbers = another_way.awaited(ended)
    if not numbers or task.state is not State.RUNNING or task.token != ended.token or task.cancelled:
        return ended
    problem = _problem(rows, task, numbers)
    if problem is not None:
        error = {"class": "Wait", "code": "bad_wait", "message": problem}
        return replace(ended, outcome=Outcome.PERMANENT, payload=msgpack.packb(error))
    turn = rows.turn
    parents = rows.tasks(numbers)
    there = {edge.parent for edge in rows.store.parents([task.number])} if task.inputs else set()
    for number in dict.fromkeys(numbers):
        parent = parents[number]
        settled = parent.state.terminal
        if number not in there:
            turn.dependencies.append(Dependency(number, task.number, On.DONE, settled))
            parent.dependents += 1
            turn.changed[number] = parent
            task.inputs += 1
        elif not settled:
            turn.reopened_edges.append((number, task.number))
        task.waiting += not settled
    return ended


def _problem(rows: Rows, task: Task, numbers: Sequence[Any]) -> str | None:
    """Why it can't wait for them: then it would wait for ever, or for nothing."""
    if len(numbers) > MOST or not all(type(number) is int for number in numbers):
        return f"an attempt can wait for at most {MOST} tasks, by their numbers"
    found = rows.tasks(sorted(set(numbers)))
    for number in numbers:
        other = found.get(number)
        if other is None or other.flow != task.flow or other.depth <= task.depth:
            return f"task {number} is none that it has added to its flow"
    return _circle(rows, task, [other for other in found.values() if not other.state.terminal])


def _circle(rows: Rows, task: Task, ahead: list[Task]) -> str | None:
    """What it waits for may wait for others, but not for itself."""
    seen = {other.number for other in ahead}
    while ahead:
        edges = rows.store.parents([other.number for other in ahead if other.inputs])
        found = {edge.parent for edge in edges}
        if task.number in found:
            return "what it would wait for waits for it"
        new = sorted(found - seen)
        seen.update(new)
        if len(seen) > _LOOKED_AT:
            return f"what it would wait for depends on more than {_LOOKED_AT} tasks"
        ahead = [other for other in rows.tasks(new).values() if not other.state.terminal]
    return None
