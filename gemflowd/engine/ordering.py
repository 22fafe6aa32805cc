"""Flows in chunks by their critical path: when all has arrived they are put in order, turn by turn, and then their gate is opened.

How far that is stands in memory alone (`engine.critical_path`): after a crash it begins anew. Tags that were given before are
given again, and nothing has run on them: the gate is opened in the turn that gives the last one. Flows that come in one request
are put in order by the turn that stores them (`engine.submission`).
"""

from __future__ import annotations

from typing import Final

from gemflowd.core import machine
from gemflowd.core.turn import CursorKind
from gemflowd.engine.critical_path import Progress
from gemflowd.engine.rows import Rows
from gemflowd.model.task import Flow, Ordering

#: Rows that a task is worth that gets its tag: of one that is ready a page of the index changes as well, somewhere.
_TAGGED: Final = 2


def put_in_order(rows: Rows, limit: int) -> tuple[int, bool]:
    """Take the first of these flows on by about `limit` rows. Returns how many were touched, and whether none is left."""
    turn, memory = rows.turn, rows.memory
    number = rows.store.paths.next_flow()
    flow = None if number is None else rows.flow(number)
    if flow is None:
        memory.ordering = None
        return 0, True
    if flow.cancelled or not machine.flow_left(flow):
        # Nothing of it starts any more; what somebody retries takes a new place, and must find the gate open.
        open_gate(rows, flow)
        return 1, False
    if (CursorKind.LINK, flow.number) in turn.cursors:
        return 0, False  # not all of its dependencies are there yet
    progress = memory.ordering
    if progress is None or progress.flow != flow.number or progress.fair != turn.rules.fair:
        progress = Progress(rows.store.paths, flow.number, memory.means.for_order, fair=turn.rules.fair)
        memory.ordering = progress
    touched = 0
    while touched < limit:
        step = progress.advance()
        if step is None:
            return touched + _give_tags(rows, flow, progress, limit - touched), False
        touched += step
    return touched, False


def _give_tags(rows: Rows, flow: Flow, progress: Progress, limit: int) -> int:
    """By number, not by place: tasks of neighbouring numbers share pages of the database."""
    turn = rows.turn
    most = max(1, limit // _TAGGED)
    tasks = rows.adopt(rows.store.flow_tasks(flow.number, progress.given, most))
    for task in tasks:
        if not task.state.terminal:  # else a retry gives it another one
            task.tag = progress.tag(task, flow.weight)
            # All of it counts as having come at one moment, whenever this turn is.
            task.urgency = machine.aged(turn.rules, task.priority, flow.touched)
            turn.changed[task.number] = task
    if len(tasks) == most:
        progress.given = tasks[-1].number
    else:
        flow.last_tag = max(flow.last_tag, progress.total / flow.weight)
        open_gate(rows, flow)
    return _TAGGED * len(tasks)


def complete(rows: Rows, flow: Flow) -> None:
    """All is received: it may run at once, or when it is in order."""
    if flow.ordering == Ordering.WANTED:
        flow.ordering = Ordering.NOW
        rows.turn.changed_flows[flow.number] = flow
        rows.turn.cursor(CursorKind.ORDER, 0)
    else:
        open_gate(rows, flow)


def open_gate(rows: Rows, flow: Flow) -> None:
    """From now on the flow may run. Its lanes are opened; no row of a task is touched for it.

    Their tags began at 0 behind the gate: what passed meanwhile is added to all of them, or the flow would burst ahead.
    """
    turn, memory = rows.turn, rows.memory
    flow.ordering = Ordering.NONE
    turn.changed_flows[flow.number] = flow
    if memory.ordering is not None and memory.ordering.flow == flow.number:
        memory.ordering = None
    gated = False
    for lane in turn.lanes.values():
        if lane.key.gate == flow.number and not lane.open:
            lane.open = gated = True
            if turn.rules.fair:
                lane.shift = memory.virtual_time
            turn.changed_lanes[lane.number] = lane
            memory.windows.pop(lane.number, None)
            memory.live.add(lane.number)
    if gated and turn.rules.fair:
        flow.last_tag += memory.virtual_time
