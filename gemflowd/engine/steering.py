"""What people do to tasks and flows (cancel, retry, discard), and the work that goes on over many turns.

A cursor is durable: it is written in the turn that begins it, moves on in later ones, also after a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gemflowd.core import graph, machine
from gemflowd.core.turn import Cursor, CursorKind
from gemflowd.engine.rows import Rows
from gemflowd.model.errors import Refused
from gemflowd.model.event import FLOW_TOPIC, Event
from gemflowd.model.facts import Cancel, Discard, Reply, Retry
from gemflowd.model.states import FlowState, State
from gemflowd.model.task import Flow, Task

#: Rows that a cursor touches in one go.
STEP: Final = 500
#: Tasks that one `retry --downstream` reaches.
_MOST_DOWNSTREAM: Final = 2_000

Counts = dict[str, int]


@dataclass(slots=True)
class _Waiting:
    """A reply that comes when its cursors are through."""

    reply: Reply
    answer: Counts | Refused
    cursors: set[tuple[CursorKind, int]]

    def copy(self) -> _Waiting:
        answer = dict(self.answer) if isinstance(self.answer, dict) else self.answer
        return _Waiting(self.reply, answer, set(self.cursors))


class Steering:
    """Carries out cancel, retry and discard, and advances the cursors.

    Replies of requests that need several turns wait here; when the daemon dies meanwhile the client asks again.
    """

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._before: list[_Waiting] = []  # as it was when the turn began

    def begin(self) -> None:
        """A turn begins."""
        self._before = [it.copy() for it in self._waiting]

    def forget(self) -> None:
        """The turn failed; those who waited before it wait on."""
        self._waiting, self._before = self._before, []

    def cancel(self, rows: Rows, fact: Cancel) -> Counts | None:
        """Returns the reply's body, None when it comes later."""
        tasks, flows = rows.resolve(fact.refs)
        counts = {"cancelled": 0, "requested": 0, "unchanged": 0}
        whole = {flow.number for flow in flows}
        for task in [task for task in tasks if task.flow not in whole]:
            counts[machine.cancel(rows.turn, task)] += 1
        kinds = []
        for flow in flows:
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
        downstream = self._downstream(rows, tasks) if fact.downstream else []
        counts = {"retried": 0, "unchanged": 0}
        for task in tasks:
            counts["retried" if self._retry(rows, task) else "unchanged"] += 1
        again = bool(downstream)
        while again:  # what was put back may make it possible for others
            retried = sum(self._retry(rows, task) for task in downstream)
            counts["retried"] += retried
            again = retried > 0
        kinds = []
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
        if flow.state != FlowState.OPEN:
            raise Refused("conflict", f"flow f{flow.number} is complete; cancel it instead")
        self._begin(rows, fact.reply, {"flow": flow.number}, [(CursorKind.DISCARD, flow.number)])

    def discard_open(self, rows: Rows, submission: str, reply: Reply, refused: Refused) -> bool:
        """A chunk was refused for its content: what came of its flow before goes too, and then the refusal is the answer.

        Returns:
            Whether there was anything.
        """
        found = rows.store.flow_of(submission)
        if found is None or found.state != FlowState.OPEN:
            return False
        self._begin(rows, reply, refused, [(CursorKind.DISCARD, found.number)])
        return True

    def _begin(self, rows: Rows, reply: Reply, answer: Counts | Refused, kinds: list[tuple[CursorKind, int]]) -> None:
        for key in kinds:
            rows.turn.cursor(*key)
        self._waiting.append(_Waiting(reply, answer, set(kinds)))
        return

    def _retry(self, rows: Rows, task: Task) -> bool:
        """Put one task back, unless it is not ended, succeeded, or a dependency makes it impossible."""
        if not task.state.terminal or task.state is State.SUCCEEDED:
            return False
        if (CursorKind.DISCARD, task.flow) in rows.turn.cursors:
            return False
        edges = (
            [(rows.tasks([edge.parent])[edge.parent], edge) for edge in rows.store.parents([task.number])]
            if task.inputs
            else []
        )
        waiting = graph.blocked_by((parent.state, edge.on) for parent, edge in edges)
        if waiting is None or not machine.retry(rows.turn, task, waiting):
            return False
        for parent, _ in edges:
            if parent.state.terminal:
                rows.turn.settled_edges.append((parent.number, task.number - 1, task.number))
            else:
                rows.turn.reopened_edges.append((parent.number, task.number))
        flow = rows.turn.flows[task.flow]
        flow.cancelled = False
        return True

    def _downstream(self, rows: Rows, tasks: list[Task]) -> list[Task]:
        """What waits for these, directly or not.

        Raises:
            Refused: it is too much for one turn.
        """
        reached: dict[int, Task] = {}
        frontier = [task.number for task in tasks if task.dependents]
        while frontier:
            children = [number for number in rows.store.children(frontier) if number not in reached]
            if len(reached) + len(children) > _MOST_DOWNSTREAM:
                raise Refused(
                    "invalid_value", f"more than {_MOST_DOWNSTREAM} tasks are downstream; retry the flow instead"
                )
            found = rows.tasks(children)
            reached.update(found)
            frontier = [number for number, task in found.items() if task.dependents]
        return list(reached.values())

    # Cursors

    def advance(self, rows: Rows, budget: int, write: Callable[[], None]) -> None:
        """Move the open cursors on by about `budget` rows in all, taking turns, so that a huge one starves nobody.

        Args:
            write: puts what is decided so far where the next step reads it.
        """
        turn = rows.turn
        used = 0
        while turn.cursors and used < budget:
            key = next(iter(turn.cursors))
            cursor = turn.cursors.pop(key)
            touched, done = self._step(rows, cursor, STEP)
            used += max(touched, 1)
            if cursor.kind in (CursorKind.RETRY, CursorKind.DISCARD):
                write()  # edges were settled, opened again or removed, and other cursors go by the stored ones
            if done:
                turn.moved_cursors.pop(key, None)
                if cursor.stored:
                    turn.done_cursors.append(cursor)
                self._finished(rows, cursor)
            else:
                turn.cursors[key] = turn.moved_cursors[key] = cursor

    def _step(self, rows: Rows, cursor: Cursor, limit: int) -> tuple[int, bool]:
        """Returns how many rows were touched, and whether the cursor is through."""
        if cursor.kind is CursorKind.SETTLE:
            return self._settle(rows, cursor, limit)
        tasks = rows.adopt(rows.store.flow_tasks(cursor.target, cursor.position, limit))
        if cursor.kind is CursorKind.DISCARD:
            return self._discard(rows, cursor, tasks, limit)
        for task in tasks:
            if cursor.kind is CursorKind.CANCEL:
                result = machine.cancel(rows.turn, task)
                if result != "unchanged":
                    self._count(cursor, result)
            elif cursor.later and task.state is not State.SKIPPED:
                continue  # it had its retry in the first round; that it has failed again is no reason for another
            elif self._retry(rows, task):
                self._count(cursor, "retried")
                cursor.again = True
        if tasks:
            cursor.position = tasks[-1].number
        if len(tasks) == limit:
            return len(tasks), False
        if cursor.again:  # what was put back may make it possible for others: one more round
            cursor.again, cursor.later, cursor.position = False, True, 0
            return len(tasks), False
        return len(tasks), True

    def _settle(self, rows: Rows, cursor: Cursor, limit: int) -> tuple[int, bool]:
        parent = rows.tasks([cursor.target]).get(cursor.target)
        if parent is None or not parent.state.terminal:
            return 0, True  # removed, or retried meanwhile: its next end settles what is open
        edges = rows.store.open_edges(parent.number, cursor.position, limit)
        children = rows.tasks([edge.child for edge in edges])
        for edge in edges:
            machine.settle_dependency(rows.turn, parent, children[edge.child], edge.on)
        if edges:
            rows.turn.settled_edges.append((parent.number, cursor.position, edges[-1].child))
            cursor.position = edges[-1].child
        return len(edges), len(edges) < limit

    def _discard(self, rows: Rows, cursor: Cursor, tasks: list[Task], limit: int) -> tuple[int, bool]:
        turn = rows.turn
        for task in tasks:
            flow = turn.flows[task.flow]
            flow.counts[task.state] -= 1
            turn.changed_flows[flow.number] = flow
            turn.counts[turn.lanes[task.lane].key.queue, task.state] -= 1
            turn.deleted_tasks.append(task.number)
            turn.changed.pop(task.number, None)
        if tasks:
            cursor.position = tasks[-1].number
        if len(tasks) == limit:
            return len(tasks), False
        gone = turn.flows.get(cursor.target) or rows.flow(cursor.target)
        if gone is not None:
            self._forget_flow(rows, gone)
        return len(tasks), True

    def _forget_flow(self, rows: Rows, flow: Flow) -> None:
        turn, memory = rows.turn, rows.memory
        turn.deleted_flows.append(flow.number)
        turn.events.append(Event(FLOW_TOPIC + "discarded", {"flow": flow.number, "name": flow.name}))
        turn.changed_flows.pop(flow.number, None)
        memory.flows.pop(flow.number, None)
        for lane in [lane for lane in turn.lanes.values() if lane.key.gate == flow.number]:
            del memory.lanes[lane.number], memory.lane_by_key[lane.key]
            memory.windows.pop(lane.number, None)

    def _count(self, cursor: Cursor, what: str) -> None:
        for waiting in self._waiting:
            if (cursor.kind, cursor.target) in waiting.cursors and isinstance(waiting.answer, dict):
                waiting.answer[what] += 1

    def _finished(self, rows: Rows, cursor: Cursor) -> None:
        for waiting in self._waiting:
            waiting.cursors.discard((cursor.kind, cursor.target))
            if not waiting.cursors:
                rows.turn.replies.append((waiting.reply, waiting.answer))
        self._waiting = [waiting for waiting in self._waiting if waiting.cursors]
