"""Unique keys of new tasks: whether they are free, what happens when they are not, and taking them."""

from __future__ import annotations

from collections.abc import Sequence

from gemflowd.core.turn import Turn
from gemflowd.engine.rows import Rows
from gemflowd.model.errors import Refused, echo
from gemflowd.model.facts import NewTask, Submit
from gemflowd.model.states import State
from gemflowd.model.task import Task


def check(rows: Rows, fact: Submit, *, alone: bool) -> Task | None:
    """Look at all keys before any is taken.

    Args:
        alone: whether this is a submission of one task, the only one for which anything but `reject` can be asked.

    Returns:
        The task that holds the key, where that is to be the answer.

    Raises:
        Refused: `duplicate_key`.
    """
    seen: set[str] = set()
    for index, new in enumerate(fact.tasks):
        if new.key is None:
            continue
        path = f"tasks[{index}].key"
        if new.key.key in seen:
            raise Refused("duplicate_key", f"the key {echo(new.key.key)} is there twice", path)
        seen.add(new.key.key)
        holder = _holder(rows, new.key.key)
        if holder is None:
            continue
        if isinstance(holder, int):
            message = f"task {holder}, which was deleted, has the key {echo(new.key.key)} until its time is over"
            raise Refused("duplicate_key", message, path)
        if alone and new.key.conflict == "return":
            return holder
        if not (alone and new.key.conflict == "replace" and may_be_replaced(rows.turn, holder)):
            state = holder.state.word
            raise Refused("duplicate_key", f"task {holder.number} ({state}) has the key {echo(new.key.key)}", path)
    return None


def may_be_replaced(turn: Turn, holder: Task) -> bool:
    """Whether it waits for its first attempt."""
    return not holder.state.terminal and holder.state is not State.RUNNING and holder.attempts == 0


def take(rows: Rows, tasks: Sequence[Task], new: Sequence[NewTask]) -> None:
    """Give the keys to the new tasks; who is replaced is cancelled."""
    turn = rows.turn
    for task, its in zip(tasks, new, strict=True):
        if its.key is None:
            continue
        holder = _holder(rows, its.key.key)
        if isinstance(holder, Task) and not holder.state.terminal:
            turn.move(holder, State.CANCELLED, f"replaced by task {task.number}")
        until = None if its.key.ttl is None else turn.steady + its.key.ttl
        turn.timed = turn.timed or until is not None
        rows.store.keys.take(its.key.key, task.number, until)


def _holder(rows: Rows, key: str) -> Task | int | None:
    """The task that has the key; its number where it was deleted."""
    number = rows.store.keys.holder(key, rows.turn.steady)
    if number is None or number in rows.turn.freed:  # the latter: it has ended in this turn
        return None
    holder = rows.tasks([number]).get(number)
    return number if holder is None or rows.turn.flows[holder.flow].deleted else holder
