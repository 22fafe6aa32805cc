"""Putting back what ended without success: what it depends on is looked up and waited for anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gemflowd.core import graph, machine
from gemflowd.core.turn import CursorKind
from gemflowd.engine.rows import Rows
from gemflowd.model.states import State
from gemflowd.model.task import CLAIMING, LINKING, Task
from gemflowd.store.base import ParentEdge

#: Dependencies of a task that are looked up together with those of others.
FEW_EDGES: Final = 10


def put_back(rows: Rows, task: Task, edges: Sequence[ParentEdge] | None = None) -> bool:
    """Put one task back, unless it is not ended, succeeded, or a dependency makes it impossible.

    Args:
        edges: its dependencies, where they have been looked up already.
    """
    if not task.state.terminal or task.state is State.SUCCEEDED:
        return False
    if (CursorKind.DISCARD, task.flow) in rows.turn.cursors or task.flags & LINKING:
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
