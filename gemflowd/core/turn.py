"""The working set of one turn: the rows that its facts name, and everything that was decided about them.

A turn is thrown away whole when its transaction fails. It does no I/O: the engine fills it and writes it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

from gemflowd.core.accounts import Accounts
from gemflowd.core.devices import Devices
from gemflowd.model.attempt import AttemptRecord, HandlerInfo
from gemflowd.model.budget import Budget, Calls, ModelUse, Reservation
from gemflowd.model.effects import Retract
from gemflowd.model.errors import Refused
from gemflowd.model.event import FLOW_TOPIC, TASK_TOPIC, Event
from gemflowd.model.facts import Reply
from gemflowd.model.lane import Bucket, Lane, LaneKey, Queue
from gemflowd.model.prices import Tokens
from gemflowd.model.rules import Rules
from gemflowd.model.states import TRANSITIONS, FlowState, State
from gemflowd.model.task import CLAIMING, KEYED, Dependency, Flow, Hold, Task, shown_id

#: Members of an enumeration by their names cost ten times as much before Python 3.12, and these are looked at for every event.
_SCHEDULED, _READY, _RUNNING, _SUCCEEDED = State.SCHEDULED, State.READY, State.RUNNING, State.SUCCEEDED
_NO_HOLD: Final = Hold.NONE
_FREED_AT_END: Final = KEYED | CLAIMING
#: What tasks have in common that are counted together.
_PLACE: Final = attrgetter("flow", "lane", "state")


class IllegalTransition(Exception):
    """A decision that the table of transitions doesn't know: a defect, never a user's mistake."""


class CursorKind(IntEnum):
    """Work that may be larger than a turn. The numbers are stored."""

    SETTLE = 1  # tell the dependents of a task that ended; target: the task
    CANCEL = 2  # cancel what is left of a flow; target: the flow
    RETRY = 3  # retry what failed in a flow; target: the flow
    DISCARD = 4  # remove an open flow; target: the flow
    HOLD = 5  # hold what waits in a flow; target: the flow
    RELEASE = 6  # release what is held in a flow; target: the flow
    EDIT = 7  # another priority for what waits in a flow; target: the flow, value: the priority
    DELETE = 8  # remove the flows that are marked as deleted; target: 0
    LINK = 9  # take apart the dependencies of a flow that were too many for one turn; target: the flow
    REORDER = 10  # order what is ready anew, the setting `ageing` has changed; target: 0
    JUDGE = 12  # evaluate the conditions of tasks that wait for nothing else any more; target: 0
    RETRY_TASK = 13  # retry one task with many dependencies; target: the task
    WAIT = 14  # let a task that was put back wait for its many dependencies anew; target: the task
    ORDER = 15  # put flows in order by their critical path, then open their gates; target: 0
    UNBATCH = 16  # tell those whose batch of model calls is over and has no answer for them; target: the batch
    UNHANDLED = 11  # release what was held for want of a handler that is there again; target: 0


@dataclass(slots=True)
class Cursor:
    """Durable progress of such work. `position` is the last number that is done."""

    kind: CursorKind
    target: int
    position: int = 0
    value: int | None = None
    later: bool = False  # not stored: a round after the first
    again: bool = False  # not stored: this round put something back
    stored: bool = False  # whether the store knows of it


@dataclass(slots=True, frozen=True)
class Chunk:
    """One request of a submission, kept so that its repeat is recognised."""

    flow: int
    offset: int
    count: int
    first: int
    complete: bool
    digest: bytes


class UsageRow(NamedTuple):
    """What attempts have used. `cost` in billionths, of those whose cost is known; `standard` is what they would have cost at the
    standard tier."""

    attempts: int = 0
    unpriced: int = 0
    prompt: int = 0
    cached: int = 0
    output: int = 0
    thoughts: int = 0
    total: int = 0
    cost: int = 0
    standard: int = 0

    def plus(self, used: Tokens, cost: int | None, standard: int) -> UsageRow:
        """One attempt more. `cost` None: not known."""
        counts = (used.prompt, used.cached, used.output, used.thoughts, used.total)
        more = (1, cost is None, *counts, cost or 0, 0 if cost is None else standard)
        return UsageRow(*map(int.__add__, self, more))


@dataclass(slots=True)
class Turn:
    """One turn's rows and decisions. `now` and `steady` in seconds since the epoch: dates go by `now`, durations by `steady`."""

    now: float
    steady: float
    rng: random.Random
    rules: Rules
    lanes: dict[int, Lane]
    lane_by_key: dict[LaneKey, Lane]
    buckets: dict[str, Bucket]
    queues: dict[str, Queue]
    used: dict[str, float]  # named resources that running tasks have
    cursors: dict[tuple[CursorKind, int], Cursor]  # all that are open
    devices: Devices = field(default_factory=Devices)  # GPUs, and who has them
    accounts: Accounts = field(default_factory=Accounts)  # budgets
    # Rows, loaded or new.
    tasks: dict[int, Task] = field(default_factory=dict)
    flows: dict[int, Flow] = field(default_factory=dict)
    # Decisions about rows.
    new_tasks: list[tuple[Task, bytes]] = field(default_factory=list)
    new_flows: list[Flow] = field(default_factory=list)
    changed: dict[int, Task] = field(default_factory=dict)  # in whatever field
    # The two steps that every task takes change the same few fields of each in the same way, so they are written together.
    begun: dict[str, list[Task]] = field(default_factory=dict)  # by slot
    succeeded: list[Task] = field(default_factory=list)
    changed_flows: dict[int, Flow] = field(default_factory=dict)
    new_lanes: list[Lane] = field(default_factory=list)
    changed_lanes: dict[int, Lane] = field(default_factory=dict)
    changed_buckets: dict[str, Bucket] = field(default_factory=dict)
    changed_ledgers: dict[str, Bucket] = field(default_factory=dict)  # written once, at the end of the turn
    dependencies: list[Dependency] = field(default_factory=list)
    settled_edges: list[tuple[int, int, int]] = field(default_factory=list)  # parent, after child, up to child
    reopened_edges: list[tuple[int, int]] = field(default_factory=list)  # parent, child: to be settled again
    closed_edges: list[tuple[int, int]] = field(default_factory=list)  # parent, child: settled, one by one
    chunks: list[Chunk] = field(default_factory=list)
    conditions: list[tuple[int, str]] = field(default_factory=list)  # task, `when`
    freed: list[int] = field(default_factory=list)  # ended tasks that held a unique key or claims
    attempts: list[AttemptRecord] = field(default_factory=list)
    results: list[tuple[int, bytes]] = field(default_factory=list)
    dropped_results: list[int] = field(default_factory=list)
    logs: list[tuple[int, int, float, str, str]] = field(default_factory=list)  # task, attempt, at, stream, text
    moved_cursors: dict[tuple[CursorKind, int], Cursor] = field(default_factory=dict)  # begun or moved on
    done_cursors: list[Cursor] = field(default_factory=list)
    deleted_tasks: list[int] = field(default_factory=list)
    deleted_flows: list[int] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)  # changed at run time; None: reset
    catalogue: list[HandlerInfo] | None = None
    timed: bool = False  # something of it comes by itself at a time of its own: a due time, an expiry
    usage: dict[tuple[int, str, int, str], UsageRow] = field(
        default_factory=dict
    )  # (day, model, flow, tier) -> more of it
    changed_models: dict[Calls, ModelUse] = field(default_factory=dict)
    changed_budgets: dict[int, Budget] = field(default_factory=dict)
    reservations: dict[int, Reservation | None] = field(default_factory=dict)  # by task: made, or None: gone
    counts: Counter[tuple[str, State]] = field(default_factory=Counter)  # (queue, state) -> change
    events: list[Event] = field(default_factory=list)
    # Decisions for outside, to be carried out after the commit.
    replies: list[tuple[Reply, dict[str, Any] | Refused]] = field(default_factory=list)
    cancel_requests: list[tuple[int, int]] = field(default_factory=list)  # task, token
    retract: Retract = Retract.NOTHING
    became_ready: list[Task] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)  # of the engine's memory, changed, that outlive it
    queued_bytes: int = 0  # change of the bodies' sizes of all that has not ended
    settled: list[Task] = field(default_factory=list)  # ended in this turn
    seconds: dict[int, float] = field(default_factory=dict)  # running time of attempts that ended in this turn
    log_lines: list[tuple[int, int, float, str, str]] = field(default_factory=list)  # as `logs`, for those who listen
    gone: list[int] = field(default_factory=list)  # flows that were removed
    closed: list[int] = field(default_factory=list)  # flows that have ended
    started: list[Task] = field(default_factory=list)
    refused_outcomes: int = 0
    joined: frozenset[int] = frozenset()  # tasks whose attempts end here and have put a question into a batch
    unasked: frozenset[int] = frozenset()  # the same of those that have only waited for somebody else's call
    budget_news: list[tuple[str, Budget]] = field(default_factory=list)  # held, warned, …: for the log
    # The engine's, for runs of schedules that wait for the end of an earlier one.
    awaited: dict[int, str] = field(default_factory=dict)  # flow -> schedule
    unblocked: set[str] = field(default_factory=set)  # schedules whose flow has ended

    def add_tasks(self, new: Sequence[tuple[Task, bytes]]) -> None:
        """Tasks of a submission with their bodies, each in its first state."""
        tasks = [task for task, _ in new]
        self.tasks.update((task.number, task) for task in tasks)
        self.new_tasks += new
        self.queued_bytes += sum(task.size for task in tasks)
        for (flow, lane, state), same in groupby(tasks, _PLACE):
            if state not in TRANSITIONS[None]:
                raise IllegalTransition(f"a task can't begin as {state.word}")
            self._enter(self.flows[flow], lane, state, list(same))

    def move(self, task: Task, to: State, reason: str | None = None) -> None:
        """A task's state changes, in this way or one of the next two.

        Raises:
            IllegalTransition: the table doesn't allow it.
        """
        self._step((task,), to, reason)
        self.changed[task.number] = task

    def begin(self, placed: Sequence[tuple[Task, str]]) -> None:
        """An attempt of each starts in the slot beside it, with a fresh token."""
        for task, slot in placed:
            task.token += 1
            task.started = self.now
            task.slot = slot
            self.begun.setdefault(slot, []).append(task)
        self._step([task for task, _ in placed], _RUNNING, None)

    def succeed(self, tasks: Sequence[Task]) -> None:
        """Their attempts, which are counted among the others now, were the last."""
        for task in tasks:
            task.attempts += 1
        self._step(tasks, _SUCCEEDED, None)
        self.succeeded += tasks

    def _step(self, tasks: Iterable[Task], to: State, reason: str | None) -> None:
        """The same step for some tasks, each of them once. What neighbours of a flow have in common is counted once for all."""
        for (number, lane, state), group in groupby(tasks, _PLACE):
            same = list(group)
            if to not in TRANSITIONS[state]:
                raise IllegalTransition(f"task {same[0].number}: {state.word} -> {to.word}")
            flow = self.flows[number]
            flow.counts[state] -= len(same)
            self.counts[self.lanes[lane].key.queue, state] -= len(same)
            if state.terminal:
                self.queued_bytes += sum(task.size for task in same)
            for task in same:
                task.state = to
                task.reason = reason
            self._enter(flow, lane, to, same)

    def _enter(self, flow: Flow, lane: int, state: State, tasks: list[Task]) -> None:
        """Tasks of one flow and lane are in that state now."""
        flow.counts[state] = flow.counts.get(state, 0) + len(tasks)
        self.changed_flows[flow.number] = flow
        self.counts[self.lanes[lane].key.queue, state] += len(tasks)
        topic = _TASK_TOPICS[state]
        self.events += [Event(topic, _fields(task)) for task in tasks]
        if not self.timed:
            self.timed = state is _SCHEDULED or any(task.expires is not None for task in tasks)
        if state is _READY:
            self.became_ready += tasks
        elif state is _RUNNING:
            self.started += tasks
        elif state.terminal:
            self._end(tasks)

    def _end(self, tasks: list[Task]) -> None:
        self.settled += tasks
        for task in tasks:
            task.finished = self.now
            task.hold = _NO_HOLD
            self.queued_bytes -= task.size
            if task.flags & _FREED_AT_END:
                self.freed.append(task.number)
            if task.dependents:
                self.cursor(CursorKind.SETTLE, task.number)

    def take_back(self, what: Retract) -> None:
        """What waits in workers would start against what was decided here."""
        self.retract = max(self.retract, what)

    def cursor(self, kind: CursorKind, target: int, value: int | None = None) -> None:
        """Begin work that may be larger than a turn, or begin it again: what it has passed may have changed since."""
        cursor = self.cursors.setdefault((kind, target), Cursor(kind, target))
        cursor.position = 0
        cursor.value = value
        self.moved_cursors[kind, target] = cursor

    def move_flow(self, flow: Flow, to: FlowState) -> None:
        flow.state = to
        flow.finished = self.now if to.terminal else None
        if to.terminal:
            flow.touched = self.steady  # how long it is kept goes by this
            self.closed.append(flow.number)
        self.changed_flows[flow.number] = flow
        self.events.append(Event(FLOW_TOPIC + to.word, {"flow": flow.number, "name": flow.name}))
        if to.terminal and flow.number in self.awaited:
            self.unblocked.add(self.awaited[flow.number])

    @property
    def decided(self) -> bool:
        """Whether anything was decided about rows since `forget_decisions`."""
        return self.timed or self.catalogue is not None or any(self._decisions())

    def forget_decisions(self) -> None:
        """What was decided about rows is in the store's transaction now; events and effects stay."""
        for decisions in self._decisions():
            if decisions:
                decisions.clear()
        self.catalogue = None
        self.timed = False

    def _decisions(self) -> tuple[list[Any] | dict[Any, Any], ...]:
        return (
            self.new_tasks, self.new_flows, self.changed, self.begun, self.succeeded, self.changed_flows, self.new_lanes,
            self.changed_lanes, self.changed_buckets, self.dependencies, self.settled_edges, self.reopened_edges,
            self.closed_edges, self.chunks, self.conditions, self.freed, self.attempts, self.results, self.dropped_results,
            self.logs, self.deleted_tasks, self.deleted_flows, self.settings, self.counts, self.became_ready, self.usage,
            self.changed_models, self.changed_budgets, self.reservations,
        )  # fmt: skip

    def wake_flows(self) -> None:
        """Close the flows that have nothing left to do, and reopen those that have again (a retry)."""
        for flow in list(self.changed_flows.values()):
            if flow.state == FlowState.OPEN:
                continue
            left = sum(count for state, count in flow.counts.items() if count and not State(state).terminal)
            if left:
                if flow.state != FlowState.ACTIVE:
                    self.move_flow(flow, FlowState.ACTIVE)
            elif flow.state == FlowState.ACTIVE:
                self.move_flow(flow, _verdict(flow))


def _fields(task: Task) -> dict[str, Any]:
    """What an event says of a task."""
    name = task.id if task.id is None else shown_id(task.id, task.flags)
    fields: dict[str, Any] = {"task": task.number, "flow": task.flow, "id": name, "type": task.type}
    if task.reason is not None:
        fields["reason"] = task.reason
    return fields


_TASK_TOPICS = {state: TASK_TOPIC + state.word for state in State}


def _verdict(flow: Flow) -> FlowState:
    """How a flow ended: failed before cancelled before succeeded. A skipped task alone is no failure: its cause is one."""
    if flow.counts.get(State.FAILED) or flow.counts.get(State.QUARANTINED):
        return FlowState.FAILED
    if flow.cancelled or flow.counts.get(State.CANCELLED):
        return FlowState.CANCELLED
    return FlowState.SUCCEEDED
