"""Putting back what ended without success: what it depends on is looked up and waited for anew.

A task with very many dependencies is put back over several turns. First it is examined whether none of them makes it impossible; it
stays as it has ended meanwhile. Then it waits for one thing more (`LINKING`) until all of them have been waited for anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gemflowd.core import graph, machine
from gemflowd.core.turn import CursorKind
from gemflowd.engine.links import stays
from gemflowd.engine.rows import Rows
from gemflowd.model.facts import MOST_EDGES
from gemflowd.model.states import On, State, satisfies
from gemflowd.model.task import CLAIMING, LINKING, Task
from gemflowd.store.base import ParentEdge, ParentState

#: Dependencies of a task that are looked up together with those of others.
FEW_EDGES: Final = 10
#: Dependencies that are examined, and waited for anew, in one go; and how many that are looked at cost as much as a row.
_EXAMINED: Final = 2_000
_WAITED_FOR: Final = 500
A_ROW: Final = 4


def too_many(edges: int) -> bool:
    """Whether so many dependencies are more than one step may look at."""
    return edges > MOST_EDGES


def may_be_put_back(rows: Rows, task: Task) -> bool:
    """Whether it has ended without success, and nothing but its dependencies can be in the way."""
    if not task.state.terminal or task.state is State.SUCCEEDED or task.flags & LINKING:
        return False
    return not rows.turn.flows[task.flow].deleted and (CursorKind.DISCARD, task.flow) not in rows.turn.cursors


def put_back(rows: Rows, task: Task, edges: Sequence[ParentEdge] | None = None) -> bool:
    """Put one task back, unless it is not ended, succeeded, or a dependency makes it impossible.

    Args:
        edges: its dependencies, where they have been looked up already.
    """
    if not may_be_put_back(rows, task):
        return False
    its = edges if edges is not None else rows.store.parents([task.number]) if task.inputs else []
    parents = rows.tasks([edge.parent for edge in its])
    if len(its) < task.inputs:
        return False  # some of its dependencies were deleted
    waiting = graph.blocked_by((parents[edge.parent].state, edge.on) for edge in its)
    if waiting is None:
        return False
    if task.flags & CLAIMING:
        rows.store.keys.claim([(edge.parent_flow, task.number) for edge in its if edge.parent_flow != task.flow])
    rows.turn.flows[task.flow].cancelled = False
    if not machine.retry(rows.turn, task, waiting):
        return False
    for edge in its:
        settled = parents[edge.parent].state.terminal
        (rows.turn.closed_edges if settled else rows.turn.reopened_edges).append((edge.parent, task.number))
    return True


def edges_of(rows: Rows, tasks: Sequence[Task]) -> dict[int, list[ParentEdge]]:
    """The dependencies of tasks that have not very many, looked up at once."""
    found: dict[int, list[ParentEdge]] = {task.number: [] for task in tasks if task.inputs <= FEW_EDGES}
    if found:
        for edge in rows.store.parents(list(found)):
            found[edge.child].append(edge)
        rows.tasks([edge.parent for its in found.values() for edge in its])
    return found


# Of very many dependencies


def examine(rows: Rows, task: Task, after: int) -> tuple[int, int | None, bool]:
    """Look at some of the dependencies of a task that has ended: whether one of them makes it impossible to put it back.

    Nothing tells it of their ends meanwhile, and none of them may until it waits for them anew: they count as settled.

    Args:
        after: the last one that was examined.

    Returns:
        How many rows that cost; the last one that was examined now, None when that is all; and whether it is possible, so far.
    """
    if after == 0 and rows.store.count_parents(task.number) < task.inputs:
        return 1, None, False  # some of its dependencies were deleted
    page = rows.store.parents_page(task.number, after, _EXAMINED)
    touched = 1 + len(page) // A_ROW
    for edge in page:
        state = _state(rows, edge)
        if state is None or (state.terminal and not satisfies(state, edge.on)):
            return touched, None, False
    marked = [(edge.parent, task.number) for edge in page if not edge.settled]
    rows.turn.closed_edges += marked
    return touched + len(marked) // 2, page[-1].parent if len(page) == _EXAMINED else None, True


def begin_to_wait(rows: Rows, task: Task) -> None:
    """Put back a task whose dependencies have all been examined."""
    rows.turn.flows[task.flow].cancelled = False
    task.flags |= LINKING
    machine.retry(rows.turn, task, 1)
    rows.turn.cursor(CursorKind.WAIT, task.number)


def wait_for(rows: Rows, number: int, after: int) -> tuple[int, int | None]:
    """Let a task that was put back wait for some of its dependencies. Returns what that cost, and the last of them; None: through."""
    turn = rows.turn
    task = rows.tasks([number]).get(number)
    if task is None:
        return 0, None
    page = [] if task.state.terminal else rows.store.parents_page(number, after, _WAITED_FOR)
    rows.need_flows({edge.flow for edge in page if edge.flow is not None})
    for edge in page:
        _wait_for(rows, task, edge)
        if task.state.terminal:
            break
    turn.changed[number] = task
    touched = 1 + len(page) // A_ROW + len(turn.reopened_edges)
    if len(page) == _WAITED_FOR and not task.state.terminal:
        return touched, page[-1].parent
    task.flags &= ~LINKING
    if not task.state.terminal:
        task.waiting -= 1
        if task.waiting == 0 and task.state is State.BLOCKED:
            machine.proceed(turn, task)
    return touched, None


def _wait_for(rows: Rows, task: Task, edge: ParentState) -> None:
    """It has been examined, but may have changed since."""
    turn = rows.turn
    state = _state(rows, edge)
    if state is None or edge.flow is None or not stays(rows, edge.flow, task):
        turn.move(task, State.SKIPPED, f"dependency {edge.parent} was deleted")
        return
    if edge.flow != task.flow:
        task.flags |= CLAIMING
        rows.store.keys.claim([(edge.flow, task.number)])
    if not state.terminal:
        task.waiting += 1
        turn.reopened_edges.append((edge.parent, task.number))
    elif not satisfies(state, edge.on):
        turn.move(task, State.SKIPPED, machine.why_impossible(rows.tasks([edge.parent])[edge.parent], On(edge.on)))


def _state(rows: Rows, edge: ParentState) -> State | None:
    """As this turn knows it; None where the task is gone."""
    mine = rows.turn.tasks.get(edge.parent)
    return edge.state if mine is None else mine.state
