"""Flows that stop when too many of their tasks have failed (`max_errors`): what waits in them is held until a person lets it go on.

Held and not cancelled: nothing that was paid for or prepared is lost, and a cancel is one word more, while a cancelled flow would have to
be put together again. A `release` gives the flow as many failures anew.
"""

from __future__ import annotations

import logging

from gemflowd.core.turn import CursorKind
from gemflowd.engine.rows import Rows
from gemflowd.model.effects import Retract
from gemflowd.model.event import FLOW_TOPIC, Event
from gemflowd.model.states import FlowState, State
from gemflowd.model.task import Flow

log = logging.getLogger("gemflow.queue")


def failed(flow: Flow) -> int:
    return flow.counts.get(State.FAILED, 0) + flow.counts.get(State.QUARANTINED, 0)


def watch(rows: Rows, flow: Flow, most: int) -> None:
    """A new flow has a `max_errors`."""
    rows.memory.stops[flow.number] = (most, most)
    rows.store.limits.stop_at(flow.number, most, most, stopped=False)


def stop_failing(rows: Rows) -> None:
    """Hold the flows of this turn in which too much has failed."""
    turn, memory = rows.turn, rows.memory
    for number in memory.stops.keys() & turn.flows.keys():
        flow, (most, at) = turn.flows[number], memory.stops[number]
        if flow.deleted:
            del memory.stops[number]
            continue
        if failed(flow) < at or flow.on_hold or flow.cancelled or FlowState(flow.state).terminal:
            continue
        if (CursorKind.RELEASE, number) in turn.cursors:
            continue  # it is being let go on; it is looked at again when that is through
        flow.on_hold = True
        turn.take_back(Retract.ALL)
        turn.changed_flows[number] = flow
        turn.cursor(CursorKind.HOLD, number)
        rows.store.limits.stop_at(number, most, at, stopped=True)
        fields = {"flow": number, "name": flow.name, "failed": failed(flow), "max_errors": most}
        turn.events.append(Event(FLOW_TOPIC + "stopped", fields))
        log.warning("flow f%d is held: %d of its tasks have failed (max_errors)", number, failed(flow))


def go_on(rows: Rows, flow: Flow) -> None:
    """A person lets it go on."""
    found = rows.memory.stops.get(flow.number)
    if found is not None:
        most = found[0]
        rows.memory.stops[flow.number] = (most, failed(flow) + most)
        rows.store.limits.stop_at(flow.number, most, failed(flow) + most, stopped=False)
