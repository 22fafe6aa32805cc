"""What people do to tasks and flows (cancel, retry, discard), and the work that goes on over many turns.

A cursor is durable: it is written in the turn that begins it, moves on in later ones, also after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from gemflowd.core import graph, machine
from gemflowd.core.turn import Cursor, CursorKind
from gemflowd.engine.conditions import judge
from gemflowd.engine.links import link
from gemflowd.engine.rows import Rows
from gemflowd.model import task as model
from gemflowd.model.errors import Refused
from gemflowd.model.event import FLOW_TOPIC, Event
from gemflowd.model.facts import Cancel, Delete, Discard, Edit, Hold, Release, Reply, Retry
from gemflowd.model.states import FlowState, On, State
from gemflowd.model.task import CLAIMING, KEYED, LINKING, UNMET, Flow, Task
from gemflowd.store.base import ParentEdge

#: Rows that a cursor touches in one go.
STEP: Final = 500
#: Rows that a step costs beside those that it touches: a few statements.
_STEP_COST: Final = 4
#: Tasks that are removed in one go, with all that hangs on them; rows of logs and dependencies, and bytes of results.
_REMOVED: Final = 200
TURN_SHARE: Final = 1_000
_REMOVED_BYTES: Final = 8 * 1024 * 1024
#: Tasks that are put back in one go: each looks at what it depends on.
_RETRIED: Final = 250
#: Dependencies of a task that are looked up together with those of others.
_FEW_EDGES: Final = 10
#: Ended tasks with few dependents whose dependents are told together.
_TOLD: Final = 100
#: Cursors other than those that settle which get a step in every turn.
_OTHERS: Final = 3
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
            self._drop(rows, CursorKind.RELEASE, flow)
            flow.on_hold = True
            rows.turn.changed_flows[flow.number] = flow
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
            self._drop(rows, CursorKind.HOLD, flow)
            flow.on_hold = False
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
            self._drop(rows, kind, flow)
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

    def _drop(self, rows: Rows, kind: CursorKind, flow: Flow) -> None:
        """Work that is overtaken by what is asked now; who waits for it is answered with what was done."""
        cursor = rows.turn.cursors.pop((kind, flow.number), None)
        if cursor is not None:
            rows.turn.moved_cursors.pop((kind, flow.number), None)
            if cursor.stored:
                rows.turn.done_cursors.append(cursor)
            self._finished(rows, cursor)

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
        self._waiting.append(_Waiting(reply, answer, set(kinds)))

    def _retry(self, rows: Rows, task: Task, edges: Sequence[ParentEdge] | None = None) -> bool:
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

    def _edges_of(self, rows: Rows, tasks: Sequence[Task]) -> dict[int, list[ParentEdge]]:
        """The dependencies of tasks that have not very many, looked up at once."""
        found: dict[int, list[ParentEdge]] = {task.number: [] for task in tasks if task.inputs <= _FEW_EDGES}
        if found:
            for edge in rows.store.parents(list(found)):
                found[edge.child].append(edge)
            rows.tasks([edge.parent for its in found.values() for edge in its])
        return found

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
        # One step of each other kind of work first: while much ends, settling alone would take every turn.
        others = list(islice((key for key in turn.cursors if key[0] not in _NOT_FIRST), _OTHERS))
        while turn.cursors and used < budget:
            # What was begun last comes first: a cursor that begins others (a cancelled flow settles what waited for its
            # tasks) is taken on when those are through, so that there are never many.
            key = others.pop() if others else _next(turn.cursors)
            if key not in turn.cursors:
                continue  # dropped by a step before
            if key[0] is CursorKind.SETTLE and (many := self._few_dependents(rows)):
                used += self._settle_many(rows, many) + _STEP_COST
                write()  # a retry that follows opens such edges again
                continue
            cursor = turn.cursors.pop(key)
            if cursor.kind is CursorKind.JUDGE:
                write()  # whom the steps before have left to it
            most = min(STEP, _RETRIED) if cursor.kind is CursorKind.RETRY else STEP
            touched, done = self._step(rows, cursor, min(most, budget - used))
            used += touched + _STEP_COST
            if cursor.kind in _MUST_WRITE:
                write()  # other cursors, and the next step, go by what is stored
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
        if cursor.kind is CursorKind.JUDGE:
            return judge(rows, limit)
        if cursor.kind is CursorKind.LINK:
            return link(rows, cursor.target)
        if cursor.kind in (CursorKind.DELETE, CursorKind.DISCARD):
            return self._remove(rows, cursor)
        if cursor.kind is CursorKind.UNHANDLED:
            held = rows.adopt(rows.store.unhandled(list(rows.memory.handlers), limit))
            for task in held:
                machine.release(rows.turn, task)
            return len(held), len(held) < limit
        if cursor.kind is CursorKind.REORDER:
            return self._reorder(rows, cursor, limit)
        tasks = rows.adopt(rows.store.flow_tasks(cursor.target, cursor.position, limit))
        edges = self._edges_of(rows, tasks) if cursor.kind is CursorKind.RETRY else {}
        elsewhere = cursor.kind is CursorKind.CANCEL and rows.store.keys.claimed(cursor.target)
        for task in tasks:
            if cursor.kind is CursorKind.CANCEL:
                result = machine.cancel(rows.turn, task)
                if result != "unchanged":
                    self._count(cursor, result)
                if result == "cancelled" and task.dependents and not elsewhere:
                    self._need_not_settle(rows, task)
            elif cursor.kind is CursorKind.HOLD:
                if machine.hold(rows.turn, task, model.Hold.PERSON, "its flow is held"):
                    self._count(cursor, "held")
            elif cursor.kind is CursorKind.RELEASE:
                if machine.release(rows.turn, task):
                    self._count(cursor, "released")
            elif cursor.kind is CursorKind.EDIT:
                assert cursor.value is not None
                if machine.edit(rows.turn, task, cursor.value):
                    self._count(cursor, "edited")
            elif cursor.later and (task.state not in (State.SKIPPED, State.CANCELLED) or task.flags & UNMET):
                continue  # it had its retry in the first round; that it has failed again is no reason for another
            elif self._retry(rows, task, edges.get(task.number)):
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

    def _few_dependents(self, rows: Rows) -> list[Task]:
        """Ended tasks with few dependents each, who can all be told in one go; none where there is one such task alone."""
        latest = islice(reversed(rows.turn.cursors.values()), _TOLD)
        targets = [it.target for it in latest if it.kind is CursorKind.SETTLE and it.position == 0]  # not begun yet
        if len(targets) < 2:
            return []
        found = rows.tasks(targets)
        # Who is gone, or was retried meanwhile, has nothing to tell: the ordinary step sees to it.
        few = [found[number] for number in targets if number in found]
        few = [task for task in few if task.state.terminal and task.dependents <= _FEW_EDGES]
        return few if len(few) > 1 else []

    def _settle_many(self, rows: Rows, parents: list[Task]) -> int:
        """Tell the dependents of several tasks of their ends. Returns how many rows that touched."""
        turn = rows.turn
        ended = {task.number: task for task in parents}
        edges = rows.store.edges_of(list(ended))
        children = rows.tasks([edge.child for edge in edges])
        for edge in edges:
            self._tell(rows, ended[edge.parent], children[edge.child], edge.on)
        turn.closed_edges += [(edge.parent, edge.child) for edge in edges]
        for number in ended:
            cursor = turn.cursors.pop((CursorKind.SETTLE, number))
            turn.moved_cursors.pop((CursorKind.SETTLE, number), None)
            if cursor.stored:
                turn.done_cursors.append(cursor)
        return len(edges) + len(ended)

    def _tell(self, rows: Rows, parent: Task, child: Task, on: On) -> None:
        waited = not child.state.terminal
        machine.settle_dependency(rows.turn, parent, child, on)
        if waited and child.state is State.CANCELLED:  # before the cursor that cancels its flow has come to it
            self._count(Cursor(CursorKind.CANCEL, child.flow), "cancelled")

    def _need_not_settle(self, rows: Rows, task: Task) -> None:
        """All who wait for a task are cancelled with it: there is nobody to be told of its end."""
        cursor = rows.turn.cursors.pop((CursorKind.SETTLE, task.number))
        del rows.turn.moved_cursors[CursorKind.SETTLE, task.number]
        if cursor.stored:  # of an earlier end, before a retry
            rows.turn.done_cursors.append(cursor)

    def _settle(self, rows: Rows, cursor: Cursor, limit: int) -> tuple[int, bool]:
        parent = rows.tasks([cursor.target]).get(cursor.target)
        if parent is None or not parent.state.terminal:
            return 0, True  # removed, or retried meanwhile: its next end settles what is open
        edges = rows.store.open_edges(parent.number, cursor.position, limit)
        children = rows.tasks([edge.child for edge in edges])
        for edge in edges:
            self._tell(rows, parent, children[edge.child], edge.on)
        if edges:
            rows.turn.settled_edges.append((parent.number, cursor.position, edges[-1].child))
            cursor.position = edges[-1].child
        return len(edges), len(edges) < limit

    def _remove(self, rows: Rows, cursor: Cursor) -> tuple[int, bool]:
        """Remove some tasks of a flow: first what may be much for each of them, then their rows."""
        turn = rows.turn
        target = rows.store.deleted_flow() if cursor.kind is CursorKind.DELETE else cursor.target
        if target is None:
            return 0, True
        tasks = rows.adopt(rows.store.flow_tasks(target, 0, _REMOVED))
        numbers = [task.number for task in tasks]
        gone = rows.store.shrink(numbers, TURN_SHARE) if tasks else 0
        if gone >= TURN_SHARE:
            return gone, False
        sizes = rows.store.result_sizes(numbers) if tasks else {}
        size = removed = 0
        for task in tasks:
            size += sizes.get(task.number, 0)
            if removed and size > _REMOVED_BYTES:
                break
            removed += 1
            flow = turn.flows[task.flow]
            flow.counts[task.state] -= 1
            turn.changed_flows[flow.number] = flow
            turn.counts[turn.lanes[task.lane].key.queue, task.state] -= 1
            if not task.state.terminal:
                turn.queued_bytes -= task.size
                if task.flags & (KEYED | CLAIMING):
                    turn.freed.append(task.number)
            turn.deleted_tasks.append(task.number)
            turn.changed.pop(task.number, None)
            turn.tasks.pop(task.number, None)
        if len(tasks) == _REMOVED or removed < len(tasks):
            return gone + 4 * removed, False
        gone_flow = rows.flow(target)
        if gone_flow is not None:
            self._forget_flow(rows, gone_flow, "discarded" if cursor.kind is CursorKind.DISCARD else None)
        return gone + 4 * removed, cursor.kind is CursorKind.DISCARD

    def _reorder(self, rows: Rows, cursor: Cursor, limit: int) -> tuple[int, bool]:
        """Order what is ready by the rule for ageing that is in force now."""
        last = cursor.position + 4 * limit
        for task in rows.adopt(rows.store.ready_in(cursor.position, last)):
            urgency = machine.aged(rows.turn.rules, task.priority, task.created)
            if task.state is State.READY and urgency != task.urgency:
                task.urgency = urgency
                rows.turn.changed[task.number] = task
                rows.turn.became_ready.append(task)
        cursor.position = last
        return 2 * limit, last >= rows.memory.next_task

    def _forget_flow(self, rows: Rows, flow: Flow, event: str | None) -> None:
        turn, memory = rows.turn, rows.memory
        self._drop(rows, CursorKind.LINK, flow)
        turn.deleted_flows.append(flow.number)
        if event is not None:
            turn.events.append(Event(FLOW_TOPIC + event, {"flow": flow.number, "name": flow.name}))
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


#: Cursors whose steps change what is read from the store: edges, and tasks that are gone.
_MUST_WRITE: Final = frozenset(
    {CursorKind.RETRY, CursorKind.DISCARD, CursorKind.DELETE, CursorKind.LINK, CursorKind.UNHANDLED, CursorKind.JUDGE}
)
#: One of each at most. Nobody is held up by what is hidden, or stands elsewhere in the order for a moment.
_LAST: Final = frozenset({CursorKind.DELETE, CursorKind.REORDER, CursorKind.UNHANDLED})

_NOT_FIRST: Final = _LAST | {CursorKind.SETTLE}


def _next(cursors: dict[tuple[CursorKind, int], Cursor]) -> tuple[CursorKind, int]:
    """The cursor that is taken on now: settling that was begun last, else the one that has waited longest; what can wait only
    when nothing else is open (there are at most three of those)."""
    last = next(reversed(cursors))
    if last[0] is CursorKind.SETTLE:
        return last
    for key in cursors:
        if key[0] not in _LAST:
            return key
    return next(iter(cursors))


def _not_waiting(flow: Flow) -> int:
    """Tasks of a flow that run or have ended."""
    return flow.received - machine.flow_left(flow) + flow.counts.get(State.RUNNING, 0)
