"""What people do to tasks and flows: cancel, retry, discard, hold, release, edit, delete.

What is larger than a turn is a cursor (`engine.cursors`), and the reply comes when it is through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gemflowd.core import machine
from gemflowd.core.turn import CursorKind
from gemflowd.engine.cursors import Cursors
from gemflowd.engine.errors import go_on
from gemflowd.engine.replies import Counts, Replies
from gemflowd.engine.retrying import may_be_put_back, put_back, too_many
from gemflowd.engine.rows import Rows
from gemflowd.model import task as model
from gemflowd.model.effects import Retract
from gemflowd.model.errors import Refused
from gemflowd.model.event import FLOW_TOPIC, Event
from gemflowd.model.facts import Cancel, Delete, Discard, Edit, Hold, Release, Reply, Retry
from gemflowd.model.states import FlowState, State
from gemflowd.model.task import Flow, Task

#: Tasks that one `retry --downstream` reaches.
_MOST_DOWNSTREAM: Final = 2_000
_MOST_DOWNSTREAM_EDGES: Final = 10_000


class Steering:
    """Carries out what is asked."""

    def __init__(self) -> None:
        self._replies = Replies()
        self._cursors = Cursors(self._replies)

    def begin(self) -> None:
        """A turn begins."""
        self._replies.begin()

    def forget(self) -> None:
        """The turn failed; those who waited before it wait on."""
        self._replies.forget()

    def advance(self, rows: Rows, budget: int, write: Callable[[], None]) -> None:
        """Move the open cursors on (`Cursors.advance`)."""
        self._cursors.advance(rows, budget, write)

    def cancel(self, rows: Rows, fact: Cancel) -> Counts | None:
        """Returns the reply's body, None when it comes later."""
        tasks, flows = rows.resolve(fact.refs)
        counts = {"cancelled": 0, "requested": 0, "unchanged": 0}
        whole = {flow.number for flow in flows}
        for task in [task for task in tasks if task.flow not in whole]:
            counts[machine.cancel(rows.turn, task)] += 1
        kinds = []
        for flow in flows:
            if flow.state == FlowState.OPEN and flow.streaming:
                rows.turn.move_flow(flow, FlowState.ACTIVE)  # it takes no more chunks
            if flow.state == FlowState.OPEN:
                kinds.append((CursorKind.DISCARD, flow.number))
            else:
                counts["unchanged"] += sum(count for state, count in flow.counts.items() if state.terminal)
                flow.cancelled = flow.cancelled or machine.flow_left(flow) > 0
                rows.turn.changed_flows[flow.number] = flow
                kinds.append((CursorKind.CANCEL, flow.number))
        if not kinds:
            return counts
        self._begin(rows, fact.reply, counts, kinds)
        return None

    def retry(self, rows: Rows, fact: Retry) -> Counts | None:
        tasks, flows = rows.resolve(fact.refs)
        for flow in flows:
            if flow.state == FlowState.OPEN:
                raise Refused("conflict", f"flow f{flow.number} is still being received")
            if (CursorKind.CANCEL, flow.number) in rows.turn.cursors:
                raise Refused("conflict", f"flow f{flow.number} is being cancelled")
        for task in tasks:
            if (CursorKind.CANCEL, task.flow) in rows.turn.cursors:
                raise Refused("conflict", f"flow f{task.flow} is being cancelled")
        downstream = self._downstream(rows, tasks) if fact.downstream else []
        counts = {"retried": 0, "unchanged": 0}
        kinds = []
        edges = 0
        for task in tasks:
            edges += task.inputs
            if not may_be_put_back(rows, task):
                counts["unchanged"] += 1
            elif too_many(edges) and not downstream:
                kinds.append((CursorKind.RETRY_TASK, task.number))  # one after the other, in later turns
            else:
                counts["retried" if put_back(rows, task) else "unchanged"] += 1
        again = bool(downstream)
        while again:  # what was put back may make it possible for others
            retried = sum(put_back(rows, task) for task in downstream)
            counts["retried"] += retried
            again = retried > 0
        for flow in flows:
            counts["unchanged"] += flow.counts.get(State.SUCCEEDED, 0)
            kinds.append((CursorKind.RETRY, flow.number))
        if not kinds:
            return counts
        self._begin(rows, fact.reply, counts, kinds)
        return None

    def discard(self, rows: Rows, fact: Discard) -> None:
        found = rows.store.flow_of(fact.submission)
        flow = None if found is None else rows.flow(found.number)
        if flow is None:
            raise Refused("not_found", "there is no such submission", "submission")
        if flow.state != FlowState.OPEN or flow.streaming:
            raise Refused("conflict", f"flow f{flow.number} is complete or runs already; cancel it instead")
        self._begin(rows, fact.reply, {"flow": flow.number}, [(CursorKind.DISCARD, flow.number)])

    def hold(self, rows: Rows, fact: Hold) -> Counts | None:
        """Keep from starting what waits; of a flow also what is added to it."""
        tasks, flows = rows.resolve(fact.refs)
        whole = {flow.number for flow in flows}
        counts = {"held": 0, "unchanged": 0}
        for task in tasks:
            if task.flow not in whole:
                held = machine.hold(rows.turn, task, model.Hold.PERSON, "held")
                counts["held" if held else "unchanged"] += 1
        for flow in flows:
            self._closed_gate(rows, flow)
            self._cursors.drop(rows, CursorKind.RELEASE, flow)
            flow.on_hold = True
            rows.turn.changed_flows[flow.number] = flow
            rows.turn.take_back(Retract.ALL)
            counts["unchanged"] += _not_waiting(flow)
        return self._over_flows(rows, fact.reply, counts, CursorKind.HOLD, flows)

    def release(self, rows: Rows, fact: Release) -> Counts | None:
        tasks, flows = rows.resolve(fact.refs)
        whole = {flow.number for flow in flows}
        counts = {"released": 0, "unchanged": 0}
        for task in tasks:
            if task.flow not in whole:
                held = rows.turn.flows[task.flow].on_hold  # then the flow is to be released
                counts["unchanged" if held or not machine.release(rows.turn, task) else "released"] += 1
        for flow in flows:
            self._cursors.drop(rows, CursorKind.HOLD, flow)
            flow.on_hold = False
            go_on(rows, flow)
            rows.turn.changed_flows[flow.number] = flow
            counts["unchanged"] += flow.received - flow.counts.get(State.HELD, 0)
        return self._over_flows(rows, fact.reply, counts, CursorKind.RELEASE, flows)

    def edit(self, rows: Rows, fact: Edit) -> Counts | None:
        tasks, flows = rows.resolve(fact.refs)
        whole = {flow.number for flow in flows}
        counts = {"edited": 0, "unchanged": 0}
        for task in tasks:
            if task.flow not in whole:
                counts["edited" if machine.edit(rows.turn, task, fact.priority) else "unchanged"] += 1
        for flow in flows:
            self._closed_gate(rows, flow)
            counts["unchanged"] += flow.received - machine.flow_left(flow)
        return self._over_flows(rows, fact.reply, counts, CursorKind.EDIT, flows, fact.priority)

    def delete(self, rows: Rows, fact: Delete) -> Counts:
        """Hide flows that have ended, and begin to remove them."""
        tasks, flows = rows.resolve(fact.refs)
        found = {flow.number: flow for flow in flows}
        for task in tasks:
            flow = rows.turn.flows[task.flow]
            if flow.received > 1 and flow.number not in found:
                message = f"task {task.number} is one of flow f{flow.number}; delete the whole flow"
                raise Refused("conflict", message, "refs")
            found[flow.number] = flow
        for flow in found.values():
            # A task may have been retried in this very turn, and the flow not been told of it yet.
            if not FlowState(flow.state).terminal or machine.flow_left(flow):
                raise Refused("conflict", f"flow f{flow.number} has not ended; cancel it first", "refs")
            if rows.store.keys.claimed(flow.number):
                message = f"a task of another flow waits for something in flow f{flow.number}"
                raise Refused("conflict", message, "refs")
        for flow in found.values():
            self.delete_flow(rows, flow)
        return {"deleted": sum(flow.received for flow in found.values())}

    def delete_flow(self, rows: Rows, flow: Flow) -> None:
        """Hide a flow that has ended and that nobody waits for, and begin to remove it."""
        for kind in (CursorKind.CANCEL, CursorKind.RETRY, CursorKind.HOLD, CursorKind.RELEASE, CursorKind.EDIT):
            self._cursors.drop(rows, kind, flow)
        flow.deleted = True
        rows.turn.changed_flows[flow.number] = flow
        rows.turn.events.append(Event(FLOW_TOPIC + "deleted", {"flow": flow.number, "name": flow.name}))
        rows.turn.cursor(CursorKind.DELETE, 0)

    def expire_open(self, rows: Rows, flow: Flow) -> None:
        """The next chunk of an open flow never came: it is discarded, or what has arrived is all of it."""
        if flow.streaming:
            rows.turn.move_flow(flow, FlowState.ACTIVE)
        elif (CursorKind.DISCARD, flow.number) not in rows.turn.cursors:
            rows.turn.cursor(CursorKind.DISCARD, flow.number)

    def _over_flows(
        self, rows: Rows, reply: Reply, counts: Counts, kind: CursorKind, flows: list[Flow], value: int | None = None
    ) -> Counts | None:
        if not flows:
            return counts
        self._begin(rows, reply, counts, [(kind, flow.number) for flow in flows], value)
        return None

    def _closed_gate(self, rows: Rows, flow: Flow) -> None:
        """Raises Refused: the flow is being received, and nothing of it is there yet for anybody."""
        if flow.state == FlowState.OPEN and not flow.streaming:
            raise Refused("conflict", f"flow f{flow.number} is still being received")

    def discard_open(self, rows: Rows, submission: str, reply: Reply, refused: Refused) -> bool:
        """A chunk was refused for its content: what came of its flow before goes too, and then the refusal is the answer.

        Returns:
            Whether there was anything.
        """
        found = rows.store.flow_of(submission)
        if found is None or found.state != FlowState.OPEN or found.streaming:
            return False
        self._begin(rows, reply, refused, [(CursorKind.DISCARD, found.number)])
        return True

    def _begin(
        self,
        rows: Rows,
        reply: Reply,
        answer: Counts | Refused,
        kinds: list[tuple[CursorKind, int]],
        value: int | None = None,
    ) -> None:
        for kind, target in kinds:
            rows.turn.cursor(kind, target, value)
        self._replies.owe(reply, answer, kinds)

    def _downstream(self, rows: Rows, tasks: list[Task]) -> list[Task]:
        """What waits for these, directly or not.

        Raises:
            Refused: it is too much for one turn.
        """
        reached: dict[int, Task] = {}
        edges = sum(task.inputs for task in tasks)
        frontier = [task.number for task in tasks if task.dependents]
        while frontier:
            children = [number for number in rows.store.children(frontier) if number not in reached]
            if len(reached) + len(children) > _MOST_DOWNSTREAM:
                raise Refused(
                    "invalid_value", f"more than {_MOST_DOWNSTREAM} tasks are downstream; retry the flow instead"
                )
            found = rows.tasks(children)
            edges += sum(task.inputs for task in found.values())
            if edges > _MOST_DOWNSTREAM_EDGES:
                message = (
                    f"what is downstream has more than {_MOST_DOWNSTREAM_EDGES} dependencies; retry the flow instead"
                )
                raise Refused("invalid_value", message)
            reached.update(found)
            frontier = [number for number, task in found.items() if task.dependents]
        return list(reached.values())


def _not_waiting(flow: Flow) -> int:
    """Tasks of a flow that run or have ended."""
    return flow.received - machine.flow_left(flow) + flow.counts.get(State.RUNNING, 0)
