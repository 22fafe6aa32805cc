"""The work that goes on over many turns: settling, cancelling, retrying, removing, taking apart, judging, reordering.

A cursor is durable: it is written in the turn that begins it, moves on in later ones, also after a crash. Who begins one:
`engine.steering` for what people ask, `core.turn` for what follows from a task's end.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

from gemflowd.core import machine
from gemflowd.core.turn import Cursor, CursorKind
from gemflowd.engine.batches import release
from gemflowd.engine.conditions import judge
from gemflowd.engine.links import link
from gemflowd.engine.ordering import put_in_order
from gemflowd.engine.replies import Replies
from gemflowd.engine.retrying import (
    A_ROW,
    FEW_EDGES,
    begin_to_wait,
    edges_of,
    examine,
    may_be_put_back,
    put_back,
    too_many,
    wait_for,
)
from gemflowd.engine.rows import Rows
from gemflowd.model import task as model
from gemflowd.model.event import FLOW_TOPIC, Event
from gemflowd.model.states import On, State
from gemflowd.model.task import CLAIMING, KEYED, UNMET, Flow, Task

_Name = tuple[CursorKind, int]

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
#: Ended tasks with few dependents whose dependents are told together.
_TOLD: Final = 100
#: Cursors other than those that settle which get a step in every turn.
_OTHERS: Final = 3


class Cursors:
    """Advances the open cursors.

    Args:
        replies: of those who wait for one to be through.
    """

    def __init__(self, replies: Replies) -> None:
        self._replies = replies

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
            key = _in_order(others.pop() if others else _next(turn.cursors), turn.cursors)
            if key not in turn.cursors:
                continue  # dropped by a step before
            if key[0] is CursorKind.SETTLE and (many := self._few_dependents(rows)):
                used += self._settle_many(rows, many) + _STEP_COST
                write()  # a retry that follows opens such edges again
                continue
            cursor = turn.cursors.pop(key)
            if cursor.kind is CursorKind.JUDGE:
                write()  # whom the steps before have left to it
            before = cursor.position, cursor.value
            most = min(STEP, _RETRIED) if cursor.kind is CursorKind.RETRY else STEP
            touched, done = self._step(rows, cursor, min(most, budget - used))
            used += touched + _STEP_COST
            if cursor.kind in _MUST_WRITE:
                write()  # other cursors, and the next step, go by what is stored
            if done:
                turn.moved_cursors.pop(key, None)
                if cursor.stored:
                    turn.done_cursors.append(cursor)
                self._replies.finished(turn, cursor)
            else:
                turn.cursors[key] = cursor
                if not cursor.stored or before != (cursor.position, cursor.value):
                    turn.moved_cursors[key] = cursor

    def _step(self, rows: Rows, cursor: Cursor, limit: int) -> tuple[int, bool]:
        """Returns how many rows were touched, and whether the cursor is through."""
        if cursor.kind is CursorKind.SETTLE:
            return self._settle(rows, cursor, limit)
        if cursor.kind is CursorKind.JUDGE:
            return judge(rows, limit)
        if cursor.kind is CursorKind.LINK:
            return link(rows, cursor.target)
        if cursor.kind is CursorKind.ORDER:
            return put_in_order(rows, limit)
        if cursor.kind in (CursorKind.DELETE, CursorKind.DISCARD):
            return self._remove(rows, cursor)
        if cursor.kind is CursorKind.UNHANDLED:
            held = rows.adopt(rows.store.unhandled(list(rows.memory.handlers), limit))
            for task in held:
                machine.release(rows.turn, task)
            return len(held), len(held) < limit
        if cursor.kind is CursorKind.UNBATCH:
            looked_at, cursor.position = release(rows, cursor.target, cursor.position, limit)
            return looked_at, looked_at < limit
        if cursor.kind is CursorKind.REORDER:
            return self._reorder(rows, cursor, limit)
        if cursor.kind is CursorKind.RETRY:
            return self._retry_flow(rows, cursor, limit)
        if cursor.kind is CursorKind.RETRY_TASK:
            return self._retry_task(rows, cursor)
        if cursor.kind is CursorKind.WAIT:
            return self._wait(rows, cursor)
        tasks = rows.adopt(rows.store.flow_tasks(cursor.target, cursor.position, limit))
        elsewhere = cursor.kind is CursorKind.CANCEL and rows.store.keys.claimed(cursor.target)
        for task in tasks:
            if cursor.kind is CursorKind.CANCEL:
                result = machine.cancel(rows.turn, task)
                if result != "unchanged":
                    self._replies.count(cursor.kind, cursor.target, result)
                if result == "cancelled" and task.dependents and not elsewhere:
                    self._need_not_settle(rows, task)
            elif cursor.kind is CursorKind.HOLD:
                if machine.hold(rows.turn, task, model.Hold.PERSON, "its flow is held"):
                    self._replies.count(cursor.kind, cursor.target, "held")
            elif cursor.kind is CursorKind.RELEASE:
                was_held = task.state is State.HELD
                if machine.release(rows.turn, task, whole=True):
                    self._replies.count(cursor.kind, cursor.target, "released")
                elif was_held:
                    self._replies.count(cursor.kind, cursor.target, "unchanged")
            else:
                assert cursor.value is not None
                if machine.edit(rows.turn, task, cursor.value):
                    self._replies.count(cursor.kind, cursor.target, "edited")
        if tasks:
            cursor.position = tasks[-1].number
        return len(tasks), len(tasks) < limit

    def _retry_flow(self, rows: Rows, cursor: Cursor, limit: int) -> tuple[int, bool]:
        """Put back some tasks of a flow. `value` is how far the dependencies of the next one have been examined, if there are many."""
        tasks = rows.adopt(rows.store.flow_tasks(cursor.target, cursor.position, limit))
        edges = edges_of(rows, tasks)
        touched = looked_at = 0
        for task in tasks:
            touched += 1
            looked_at += task.inputs
            again = False
            if cursor.later and (task.state not in (State.SKIPPED, State.CANCELLED) or task.flags & UNMET):
                pass  # it had its retry in the first round; that it has failed again is no reason for another
            elif too_many(task.inputs):
                if may_be_put_back(rows, task):
                    cost, cursor.value, again = examine(rows, task, cursor.value or 0)
                    touched += cost
                    if cursor.value is not None:
                        return touched, False
                    if again:
                        begin_to_wait(rows, task)
            elif too_many(looked_at):
                return touched, False
            else:
                again = put_back(rows, task, edges.get(task.number))
                touched += task.inputs // A_ROW
            if again:
                self._replies.count(cursor.kind, cursor.target, "retried")
                cursor.again = True
            cursor.position, cursor.value = task.number, None
        if len(tasks) == limit:
            return touched, False
        if cursor.again:  # what was put back may make it possible for others: one more round
            cursor.again, cursor.later, cursor.position = False, True, 0
            return touched, False
        return touched, True

    def _retry_task(self, rows: Rows, cursor: Cursor) -> tuple[int, bool]:
        """Put back one task, whose dependencies are many, or many together with those of others."""
        task = rows.tasks([cursor.target]).get(cursor.target)
        touched, possible = 1, False
        if task is not None and may_be_put_back(rows, task) and (CursorKind.CANCEL, task.flow) not in rows.turn.cursors:
            if too_many(task.inputs):
                touched, after, possible = examine(rows, task, cursor.position)
                if after is not None:
                    cursor.position = after
                    return touched, False
                if possible:
                    begin_to_wait(rows, task)
            else:
                touched, possible = 1 + task.inputs // A_ROW, put_back(rows, task)
        self._replies.count(cursor.kind, cursor.target, "retried" if possible else "unchanged")
        return touched, True

    def _wait(self, rows: Rows, cursor: Cursor) -> tuple[int, bool]:
        touched, after = wait_for(rows, cursor.target, cursor.position)
        if after is not None:
            cursor.position = after
        return touched, after is None

    def _few_dependents(self, rows: Rows) -> list[Task]:
        """Ended tasks with few dependents each, who can all be told in one go; none where there is one such task alone."""
        # Those first that ended first: the latest first, while much ends, would tell some of the others never.
        settling = (it for it in rows.turn.cursors.values() if it.kind is CursorKind.SETTLE)
        targets = [it.target for it in islice(settling, _TOLD) if it.position == 0]  # not begun yet
        if len(targets) < 2:
            return []
        found = rows.tasks(targets)
        # Who is gone, or was retried meanwhile, has nothing to tell: the ordinary step sees to it.
        few = [found[number] for number in targets if number in found]
        few = [task for task in few if task.state.terminal and task.dependents <= FEW_EDGES]
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
            self._replies.count(CursorKind.CANCEL, child.flow, "cancelled")

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
        """Order what is ready by the rule for ageing that is in force now; what comes back later has its place by it, too."""
        last = cursor.position + 4 * limit
        for task in rows.adopt(rows.store.placed_in(cursor.position, last)):
            urgency = machine.aged(rows.turn.rules, task.priority, task.created)
            if urgency != task.urgency:
                task.urgency = urgency
                rows.turn.changed[task.number] = task
                if task.state is State.READY:
                    rows.turn.became_ready.append(task)
        cursor.position = last
        return 2 * limit, last >= rows.memory.next_task

    def _forget_flow(self, rows: Rows, flow: Flow, event: str | None) -> None:
        turn, memory = rows.turn, rows.memory
        self.drop(rows, CursorKind.LINK, flow)
        turn.deleted_flows.append(flow.number)
        turn.gone.append(flow.number)
        if event is not None:
            turn.events.append(Event(FLOW_TOPIC + event, {"flow": flow.number, "name": flow.name}))
        turn.changed_flows.pop(flow.number, None)
        memory.flows.pop(flow.number, None)
        for lane in [lane for lane in turn.lanes.values() if lane.key.gate == flow.number]:
            del memory.lanes[lane.number], memory.lane_by_key[lane.key]
            memory.windows.pop(lane.number, None)

    def drop(self, rows: Rows, kind: CursorKind, flow: Flow) -> None:
        """Work that is overtaken by what is asked now; who waits for it is answered with what was done."""
        cursor = rows.turn.cursors.pop((kind, flow.number), None)
        if cursor is not None:
            rows.turn.moved_cursors.pop((kind, flow.number), None)
            if cursor.stored:
                rows.turn.done_cursors.append(cursor)
            self._replies.finished(rows.turn, cursor)


#: Cursors whose steps change what is read from the store: edges, and tasks that are gone.
_MUST_WRITE: Final = frozenset(
    {
        CursorKind.RETRY,
        CursorKind.RETRY_TASK,
        CursorKind.WAIT,
        CursorKind.DISCARD,
        CursorKind.DELETE,
        CursorKind.LINK,
        CursorKind.UNHANDLED,
        CursorKind.JUDGE,
        CursorKind.ORDER,
    }
)
#: One of each at most. Nobody is held up by what is hidden, or stands elsewhere in the order for a moment.
_LAST: Final = frozenset({CursorKind.DELETE, CursorKind.REORDER, CursorKind.UNHANDLED})

_NOT_FIRST: Final = _LAST | {CursorKind.SETTLE}


def _in_order(key: _Name, cursors: dict[_Name, Cursor]) -> _Name:
    """Of tasks that are retried one by one the first: another one may depend on it."""
    if key[0] is CursorKind.RETRY_TASK:
        return min((other for other in cursors if other[0] is CursorKind.RETRY_TASK), default=key)
    return key


def _next(cursors: dict[_Name, Cursor]) -> _Name:
    """The cursor that is taken on now: settling that was begun last, else the one that has waited longest; what can wait only
    when nothing else is open (there are at most three of those)."""
    last = next(reversed(cursors))
    if last[0] is CursorKind.SETTLE:
        return last
    for key in cursors:
        if key[0] not in _LAST:
            return key
    return next(iter(cursors))
