"""Looks up what tasks that start are given of their dependencies.

A task may have 100,000 of them: theirs are gathered over several turns before it starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gemflowd.core import limits
from gemflowd.core.inputs import Gathering, Inputs
from gemflowd.core.lanes import Key, key_of
from gemflowd.engine.memory import Memory
from gemflowd.engine.rows import Rows
from gemflowd.model.states import State
from gemflowd.model.task import Task

#: Dependencies whose results are looked up in the turn that starts the task; of more they are gathered before, as many a turn.
AT_ONCE: Final = 2_000
#: Tasks whose inputs may be in memory before they start: each has up to max_inputs_mb.
_AT_A_TIME: Final = 4
#: Dependencies, and bytes of their results in all, with which a task is still one of several that are handed over at a time.
_FEW: Final = 16
_SMALL: Final = 64 * 1024


def gather(rows: Rows) -> None:
    """One turn's share of gathering; who is through goes back into its window."""
    memory = rows.memory
    _make_room(rows)
    if not memory.gathering:
        return
    number, it = next(iter(memory.gathering.items()))
    task = rows.tasks([number]).get(number)
    if task is None or task.state is not State.READY:
        del memory.gathering[number]
    else:
        page = rows.store.inputs_page(number, it.after, AT_ONCE)
        it.inputs.add((parent, name, value) for parent, name, value in page if value is not None)
        if len(page) < AT_ONCE or it.inputs.size > rows.turn.rules.max_inputs_bytes:
            memory.gathered[number] = memory.gathering.pop(number).inputs
            memory.windows[task.lane].push(key_of(task, rows.turn.lanes[task.lane]))  # it may have been edited or moved
            memory.live.add(task.lane)
        else:
            it.after = page[-1][0]
    memory.again = memory.again or bool(memory.gathering)


def _make_room(rows: Rows) -> None:
    """Forget what was gathered for tasks that may not start any more; who waited for room is in the order again."""
    memory, turn = rows.memory, rows.turn
    for number in list(memory.gathered):
        task = rows.tasks([number]).get(number)
        if task is None or task.state is not State.READY or not limits.may_start(turn, turn.lanes[task.lane]):
            del memory.gathered[number]
    if memory.to_gather and len(memory.gathering) + len(memory.gathered) < _AT_A_TIME:
        for lane, key in memory.to_gather.values():
            if lane in memory.windows:
                memory.windows[lane].push(key)
                memory.live.add(lane)
        memory.to_gather.clear()


def must_gather(memory: Memory, task: Task) -> bool:
    """Whether a task that is about to start has too many dependencies for one turn; then they are gathered first."""
    return task.inputs > AT_ONCE and task.number not in memory.gathered


def begin_to_gather(memory: Memory, task: Task, lane: int, key: Key) -> None:
    """Take it out of the order until it is through; also while it waits because enough others hold theirs in memory."""
    if task.number in memory.gathering:
        return
    if len(memory.gathering) + len(memory.gathered) >= _AT_A_TIME:
        memory.to_gather[task.number] = lane, key
    else:
        memory.gathering[task.number] = Gathering()
        memory.again = True


def large(rows: Rows, tasks: Iterable[Task]) -> set[int]:
    """Those of some tasks whose inputs are so large, or so many, that they are handed over one at a time."""
    with_inputs = [task for task in tasks if task.inputs]
    few = [task.number for task in with_inputs if task.inputs <= _FEW]
    sizes = rows.store.input_sizes(few) if few else {}
    return {task.number for task in with_inputs if task.inputs > _FEW or sizes.get(task.number, 0) > _SMALL}


def inputs_of(rows: Rows, tasks: Iterable[Task]) -> dict[int, Inputs]:
    """What tasks that start are given."""
    memory = rows.memory
    found = {}
    wanted = []
    for task in tasks:
        gathered = memory.gathered.pop(task.number, None)
        if gathered is not None:
            found[task.number] = gathered
        elif task.inputs:
            wanted.append(task.number)
    for number, results in (rows.store.inputs(wanted) if wanted else {}).items():
        found[number] = Inputs()
        found[number].add(results)
    return found
