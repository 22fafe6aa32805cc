"""Dependencies that were too many for the turn that stored them: put aside whole, taken apart some at a time.

Until that is done its task waits for one thing more (`LINKING`), so nothing can start too early.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgpack

from gemflowd.core import machine
from gemflowd.core.turn import CursorKind
from gemflowd.engine.rows import Rows
from gemflowd.model.states import FlowState, On, State, satisfies
from gemflowd.model.task import CLAIMING, LINKING, Dependency, Task

#: Dependencies in one stored piece, and pieces that are taken apart in one go.
_PIECE: Final = 250
#: Rows that one of them is worth: it loads, changes and makes one each.
_COST: Final = 3
_PIECES: Final = 1


def put_aside(rows: Rows, task: Task, edges: Sequence[tuple[int, On]]) -> None:
    """Store what a new task depends on, to be taken apart later."""
    task.flags |= LINKING
    task.waiting += 1
    pieces = [edges[at : at + _PIECE] for at in range(0, len(edges), _PIECE)]
    last = len(pieces) - 1
    rows.store.links.put(
        task.flow, [(task.number, index == last, msgpack.packb(piece)) for index, piece in enumerate(pieces)]
    )
    rows.turn.cursor(CursorKind.LINK, task.flow)


def link(rows: Rows, flow: int) -> tuple[int, bool]:
    """Take some apart. Returns how many rows were touched, and whether nothing is left."""
    turn = rows.turn
    pieces = rows.store.links.next(flow, _PIECES)
    touched = 0
    for _, number, last, packed in pieces:
        child = rows.tasks([number]).get(number)
        if child is None:
            continue
        edges: list[tuple[int, int]] = msgpack.unpackb(packed)
        parents = rows.tasks([parent for parent, _ in edges])
        for parent_number, on in edges:
            _link(rows, child, parents.get(parent_number), parent_number, On(on))
        touched += _COST * len(edges)
        if last:
            child.flags &= ~LINKING
            child.waiting -= 1
            turn.changed[number] = child
            if child.waiting == 0 and child.state is State.BLOCKED:
                machine.proceed(turn, child)
    rows.store.links.done([seq for seq, *_ in pieces])
    return touched, len(pieces) < _PIECES


def stays(rows: Rows, flow: int, child: Task) -> bool:
    """Whether what is waited for in a flow will tell of its end: not what may still be discarded, or is being deleted."""
    owner = rows.turn.flows[flow]
    return flow == child.flow or not (owner.deleted or owner.state == FlowState.OPEN)


def _link(rows: Rows, child: Task, parent: Task | None, number: int, on: On) -> None:
    turn = rows.turn
    if parent is None or not stays(rows, parent.flow, child):
        # The server has looked; it went while this was waiting to be taken apart.
        if not child.state.terminal:
            turn.move(child, State.SKIPPED, f"dependency {number} was deleted")
        return
    settled = parent.state.terminal
    turn.dependencies.append(Dependency(parent.number, child.number, on, settled))
    parent.dependents += 1
    turn.changed[parent.number] = parent
    turn.changed[child.number] = child
    if parent.flow != child.flow and not child.state.terminal:
        child.flags |= CLAIMING
        rows.store.keys.claim([(parent.flow, child.number)])
    if not settled:
        child.waiting += 1
    elif not satisfies(parent.state, on) and not child.state.terminal:
        turn.move(child, State.SKIPPED, machine.why_impossible(parent, on))
