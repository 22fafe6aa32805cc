"""A submission in a turn: is it new, a repeat or the next chunk; what its tasks wait for; how they begin."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Final

from gemflowd.core import machine
from gemflowd.core.graph import remaining_paths
from gemflowd.core.turn import Chunk, CursorKind, Turn
from gemflowd.engine import budgets, keys, ordering
from gemflowd.engine.errors import watch
from gemflowd.engine.links import put_aside
from gemflowd.engine.rows import Rows, stale
from gemflowd.model.errors import Refused, echo
from gemflowd.model.facts import MOST_EDGES, Grow, NewDependency, NewTask, Submit, TaskNumber
from gemflowd.model.lane import Lane
from gemflowd.model.refs import NamedTask
from gemflowd.model.states import FlowState, State, satisfies
from gemflowd.model.task import (
    CLAIMING,
    CONDITIONAL,
    DUE_WALL,
    EXPIRES_WALL,
    INTEGER_ID,
    KEYED,
    Dependency,
    Flow,
    Hold,
    Ordering,
    Task,
)
from gemflowd.store.tables import Addition

_READY: Final = State.READY


def submit(rows: Rows, fact: Submit, *, accepting: bool = True) -> dict[str, object]:
    """Store a submission, or one chunk of it, and return the reply's body.

    Args:
        accepting: False while the daemon drains: only what is stored already is acknowledged again.

    Raises:
        Refused: nothing of this request was decided; the turn is as before.
    """
    turn = rows.turn
    if fact.grow is not None and fact.repeats is None:
        return grow(rows, fact, fact.grow, accepting=accepting)
    added = rows.store.keys.addition(fact.submission)
    if added is not None:
        return _added(rows, fact, added)
    flow = _flow_of(rows, fact.submission)
    if flow is not None:
        if flow.deleted or (CursorKind.DISCARD, flow.number) in turn.cursors:
            raise Refused("conflict", f"flow f{flow.number} of this submission is being discarded", "submission")
        repeated = _repeat(rows, flow, fact)
        if repeated is not None:
            return _reply(rows, flow, repeated, repeated=True)
        if fact.repeats is not None:
            raise _gone()
        if flow.state != FlowState.OPEN:
            raise Refused(
                "submission_closed",
                f"flow f{flow.number} of this submission is complete and takes no more chunks",
                "submission",
            )
        if fact.offset != (arrived := in_chunks(rows, flow)):
            raise Refused(
                "submission_offset", f"the next chunk begins at offset {arrived}, not {fact.offset}", "offset"
            )
    if fact.repeats is not None:
        raise _gone()
    may_add(rows, fact, accepting=accepting)
    if flow is None and fact.offset:
        raise Refused("submission_offset", "this submission is not known: its first chunk begins at offset 0", "offset")

    budgets.check_prices(rows, flow, fact)
    parents = _find_parents(rows, flow, fact)
    holder = keys.check(rows, fact, alone=flow is None and fact.complete and len(fact.tasks) == 1)
    if holder is not None:
        addition = Addition(holder.flow, holder.number, 1, fact.digest, grown=False)
        rows.store.keys.add(fact.submission, addition)
        return {**_added(rows, fact, addition), "key": "returned"}
    if flow is None:
        flow = _new_flow(rows, fact)
        budgets.with_flow(rows, flow, fact.budget)
    at_once = fact.complete and flow.received == 0 and not flow.ordering
    gate = flow.number if not flow.streaming and not at_once else 0
    tasks = store_tasks(rows, flow, fact, parents, gate=gate, depth=0)
    chunk = Chunk(flow.number, fact.offset, len(tasks), tasks[0].number if tasks else 0, fact.complete, fact.digest)
    turn.chunks.append(chunk)
    if fact.complete:
        _complete(rows, flow)
    return _reply(rows, flow, chunk, repeated=False)


def _gone() -> Refused:
    return Refused("conflict", "what this submission repeats is being deleted", "submission")


def grow(rows: Rows, fact: Submit, wish: Grow, *, accepting: bool) -> dict[str, object]:
    """A running task adds tasks to its own flow. A repeat, or the same step of another attempt, adds nothing.

    Raises:
        Refused: `stale_attempt`, `growth_limit`, and all that a submission is refused for.
    """
    task = rows.tasks([wish.task]).get(wish.task)
    if task is None or task.state is not State.RUNNING or task.token != wish.token:
        raise stale(wish.task, "grow")
    name = fact.submission if wish.step is None else f"{task.number}/{wish.step}"
    added = rows.store.keys.addition(name)
    if added is not None:
        return _added(rows, fact, added)
    may_add(rows, fact, accepting=accepting)
    if _flow_of(rows, fact.submission) is not None:
        raise Refused("submission_reused", "this submission's UUID was used for another flow", "submission")
    flow, rules = rows.turn.flows[task.flow], rows.turn.rules
    if flow.cancelled or task.cancelled:
        raise Refused("conflict", f"flow f{flow.number} is cancelled")
    if rows.store.keys.added(flow.number) + len(fact.tasks) > rules.max_growth_tasks:
        message = f"flow f{flow.number} would grow by more than max_growth_tasks = {rules.max_growth_tasks}"
        raise Refused("growth_limit", message, "tasks")
    if task.depth >= rules.max_growth_depth:
        message = f"task {task.number} was added at depth {task.depth}, max_growth_depth is {rules.max_growth_depth}"
        raise Refused("growth_limit", message, "grow")
    budgets.check_prices(rows, flow, fact)
    parents = _find_parents(rows, flow, fact)
    keys.check(rows, fact, alone=False)
    tasks = store_tasks(rows, flow, fact, parents, gate=0, depth=task.depth + 1)
    addition = Addition(
        flow.number, tasks[0].number, len(tasks), fact.digest if wish.step is None else None, grown=True
    )
    rows.store.keys.add(name, addition)
    return _addition_reply(flow, fact, addition, repeated=False)


def may_add(rows: Rows, fact: Submit, *, accepting: bool) -> None:
    """Whether the queue takes anything at all now.

    Raises:
        Refused: `draining`, `queue_full` or `disk_full`.
    """
    memory, turn = rows.memory, rows.turn
    if not accepting:
        raise Refused("draining", "the daemon is stopping; submit again when it is back")
    if memory.disk_low:
        raise Refused("disk_full", "the disk is nearly full (setting min_free_mb); nothing was stored")
    held = memory.queued_bytes + turn.queued_bytes
    if held + sum(len(task.body) for task in fact.tasks) > turn.rules.max_queued_bytes:
        message = f"{held} bytes are queued, max_queued_bytes is {turn.rules.max_queued_bytes}; submit again later"
        raise Refused("queue_full", message)


def store_tasks(
    rows: Rows, flow: Flow, fact: Submit, parents: dict[tuple[int, int], Task], *, gate: int, depth: int
) -> list[Task]:
    """New tasks of a flow: rows, dependencies, keys, first states."""
    turn = rows.turn
    first = rows.memory.next_task
    lanes: dict[int, Lane] = {}  # by the identity of the key: the tasks of a request share few
    tasks = []
    for number, new in enumerate(fact.tasks, first):
        lane = lanes.get(id(new.lane))
        if lane is None:
            key = replace(new.lane, gate=gate) if gate else new.lane
            lane = lanes[id(new.lane)] = machine.lane_for(turn, key)
        tasks.append(_new_task(turn, flow, number, new, lane, depth))
    rows.memory.next_task += len(tasks)
    impossible: dict[int, str] = {}
    edges = sum(len(new.deps) for new in fact.tasks)
    if edges > MOST_EDGES:
        for task, new in zip(tasks, fact.tasks, strict=True):
            if new.deps:
                put_aside(rows, task, [(_number(tasks, dependency), dependency.on) for dependency in new.deps])
    elif edges:
        impossible = _connect(rows, tasks, fact.tasks, parents)
    if fact.critical_path and not flow.ordering:
        _order(rows, flow, tasks, fact.tasks)
    keys.take(rows, tasks, fact.tasks)
    if fact.task_budgets:
        budgets.with_tasks(rows, tasks, fact.tasks)
    _enter(turn, tasks, fact.tasks, impossible)
    flow.first = flow.first or (first if tasks else 0)
    flow.received += len(tasks)
    flow.touched = turn.steady
    turn.changed_flows[flow.number] = flow
    return tasks


def _many_edges(fact: Submit) -> bool:
    return sum(len(new.deps) for new in fact.tasks) > MOST_EDGES


def _number(tasks: list[Task], dependency: NewDependency) -> int:
    """Of many dependencies the server has looked up the names already."""
    if isinstance(dependency.target, int):
        return tasks[dependency.target].number
    assert isinstance(dependency.target, TaskNumber), dependency
    return dependency.target.number


def _order(rows: Rows, flow: Flow, tasks: list[Task], new: list[NewTask]) -> None:
    """Longest remaining path first: the flow's share of the order is given out once, in that order."""
    means = rows.memory.means
    seconds = [it.estimate if it.estimate is not None else means.for_order(it.type) for it in new]
    parents = [[d.target for d in it.deps if isinstance(d.target, int)] for it in new]
    *_, remaining = remaining_paths(seconds, parents)
    assert remaining is not None
    base = max(rows.memory.virtual_time, flow.last_tag)
    for place, index in enumerate(sorted(range(len(tasks)), key=lambda index: -remaining[index])):
        task = tasks[index]
        task.tag = base + (place + 1) / flow.weight if rows.turn.rules.fair else float(tasks[0].number + place)
        task.urgency = machine.aged(rows.turn.rules, task.priority, rows.turn.steady)
    flow.last_tag = base + len(tasks) / flow.weight


def _added(rows: Rows, fact: Submit, added: Addition) -> dict[str, object]:
    if added.digest is not None and added.digest != fact.digest:
        raise Refused("submission_reused", "this submission's UUID was used before, with other content", "submission")
    flow = rows.flow(added.flow)
    assert flow is not None, added
    return _addition_reply(flow, fact, added, repeated=True)


def _addition_reply(flow: Flow, fact: Submit, added: Addition, *, repeated: bool) -> dict[str, object]:
    return {
        "flow": flow.number,
        "submission": fact.submission,
        "state": FlowState(flow.state).word,
        "first": added.first,
        "count": added.size,
        "received": flow.received,
        "repeated": repeated,
    }


def _flow_of(rows: Rows, submission: str) -> Flow | None:
    for flow in rows.turn.new_flows:
        if flow.submission == submission:
            return flow
    found = rows.store.flow_of(submission)
    return None if found is None else rows.flow(found.number)


def _repeat(rows: Rows, flow: Flow, fact: Submit) -> Chunk | None:
    """The chunk that this request repeats, if it does.

    Raises:
        Refused: `submission_reused`, the same place with other content.
    """
    count = len(fact.tasks) if fact.repeats is None else fact.repeats
    wanted = (flow.number, fact.offset, count, fact.complete)
    chunk = next((c for c in rows.turn.chunks if (c.flow, c.offset, c.count, c.complete) == wanted), None)
    chunk = chunk or rows.store.chunk(*wanted)
    if chunk is not None and chunk.digest == fact.digest:
        return chunk
    if chunk is not None or (fact.offset < flow.received and flow.state != FlowState.OPEN):
        raise Refused(
            "submission_reused",
            f"this submission's UUID was used for flow f{flow.number} with other content",
            "submission",
        )
    return None


def in_chunks(rows: Rows, flow: Flow) -> int:
    """How many tasks have arrived from the submitter; those that the flow's own tasks added are not among them."""
    return flow.received - (rows.store.keys.added(flow.number) if flow.streaming else 0)


def _reply(rows: Rows, flow: Flow, chunk: Chunk, *, repeated: bool) -> dict[str, object]:
    return {
        "flow": flow.number,
        "submission": flow.submission,
        "state": FlowState(flow.state).word,
        "first": chunk.first or None,
        "count": chunk.count,
        "received": in_chunks(rows, flow),
        "repeated": repeated,
    }


def _new_flow(rows: Rows, fact: Submit) -> Flow:
    turn = rows.turn
    flow = Flow(
        number=rows.memory.next_flow,
        submission=fact.submission,
        name=fact.name,
        state=FlowState.OPEN,
        created=turn.now,
        finished=None,
        first=0,
        received=0,
        last_tag=0.0,
        weight=fact.weight,
        counts={},
        touched=turn.steady,
        streaming=fact.stream and not fact.complete,
        metadata=fact.metadata,
    )
    if fact.max_errors is not None:
        watch(rows, flow, fact.max_errors)
    if fact.critical_path and not flow.streaming and (not fact.complete or _many_edges(fact)):
        flow.ordering = Ordering.WANTED
    rows.memory.next_flow += 1
    rows.memory.remember_flow(flow)
    turn.flows[flow.number] = flow
    turn.new_flows.append(flow)
    turn.changed_flows[flow.number] = flow
    return flow


def _complete(rows: Rows, flow: Flow) -> None:
    """All is received."""
    rows.turn.move_flow(flow, FlowState.ACTIVE)
    flow.streaming = False
    ordering.complete(rows, flow)


def _new_task(turn: Turn, flow: Flow, number: int, new: NewTask, lane: Lane, depth: int) -> Task:
    due, expires, flags = new.run_at, new.expires, 0
    if new.run_at is not None:
        flags |= DUE_WALL
    elif new.delay is not None:
        due = turn.steady + new.delay
    if new.expires is not None:
        flags |= EXPIRES_WALL
    elif new.expires_in is not None:
        expires = turn.steady + new.expires_in
    if new.when is not None:
        flags |= CONDITIONAL
    if new.key is not None and new.key.ttl is None:
        flags |= KEYED
    if new.integer_id:
        flags |= INTEGER_ID
    return Task(
        number=number,
        flow=flow.number,
        id=new.id,
        type=new.type,
        state=_READY,
        priority=new.priority,
        lane=lane.number,
        created=turn.now,
        timeout=new.timeout,
        retries=new.retries,
        backoff=new.backoff,
        due=due,
        inputs=len(new.deps),
        urgency=new.priority,
        expires=expires,
        flags=flags,
        depth=depth,
        size=len(new.body),
        rules=new.rules,
        memory_mb=new.memory_mb,
        estimate=new.estimate,
    )


def _find_parents(rows: Rows, flow: Flow | None, fact: Submit) -> dict[tuple[int, int], Task]:
    """The stored tasks that the new ones wait for: (index of task, index of dependency) -> parent.

    Raises:
        Refused: `unknown_dependency`, `duplicate_id` or `invalid_value`, with the field's path.
    """
    if flow is not None:
        ids = {task.id: index for index, task in enumerate(fact.tasks) if task.id is not None}
        for name in rows.named(flow.number, list(ids)) if ids else ():
            raise Refused(
                "duplicate_id",
                f"the flow has a task {echo(name)} already, in an earlier chunk",
                f"tasks[{ids[name]}].id",
            )
    if _many_edges(fact):
        return {}  # the server has looked them up; they are taken apart later
    wanted: dict[int, set[str]] = defaultdict(set)
    numbers: set[int] = set()
    for new in fact.tasks:
        for dependency in new.deps:
            target = dependency.target
            if isinstance(target, TaskNumber):
                numbers.add(target.number)
            elif isinstance(target, NamedTask):
                wanted[target.flow].add(target.id)
            elif isinstance(target, str) and flow is not None:
                wanted[flow.number].add(target)
    if not wanted and not numbers and all(isinstance(d.target, int) for new in fact.tasks for d in new.deps):
        return {}
    by_number = rows.tasks(sorted(numbers))
    by_name = {number: rows.named(number, sorted(names)) for number, names in wanted.items()}
    found: dict[tuple[int, int], Task] = {}
    for index, new in enumerate(fact.tasks):
        seen: set[int] = set()
        for place, dependency in enumerate(new.deps):
            parent = _parent(dependency, flow, by_number, by_name)
            if parent is None:
                continue
            owner = rows.turn.flows[parent.flow]
            if owner.deleted:
                raise Refused("unknown_dependency", f"task {parent.number} is being deleted", dependency.path)
            if owner.state == FlowState.OPEN and owner is not flow:
                # It may still be discarded, and then nothing would ever tell the new task.
                raise Refused(
                    "unknown_dependency",
                    f"task {parent.number} is of flow f{owner.number}, which is still being received",
                    dependency.path,
                )
            if parent.number in seen:
                raise Refused("invalid_value", "this dependency is there twice, by two names", dependency.path)
            seen.add(parent.number)
            found[index, place] = parent
    return found


def _parent(
    dependency: NewDependency, flow: Flow | None, by_number: dict[int, Task], by_name: dict[int, dict[str, Task]]
) -> Task | None:
    target = dependency.target
    if isinstance(target, int):
        return None  # in the same chunk
    if isinstance(target, TaskNumber):
        parent, name = by_number.get(target.number), f"task {target.number}"
    elif isinstance(target, NamedTask):
        parent, name = by_name[target.flow].get(target.id), f"task f{target.flow}/{target.id}"
    else:
        parent = by_name[flow.number].get(target) if flow is not None else None
        name = f"task {echo(target)} in this flow (a dependency must be in the same or an earlier chunk)"
    if parent is None:
        raise Refused("unknown_dependency", f"there is no {name}", dependency.path)
    return parent


def _connect(rows: Rows, tasks: list[Task], new: list[NewTask], parents: dict[tuple[int, int], Task]) -> dict[int, str]:
    """Make the edges and count what each task waits for.

    Returns:
        Why a task can never run, by its index: a dependency had ended otherwise before.
    """
    turn = rows.turn
    impossible: dict[int, str] = {}
    claims: list[tuple[int, int]] = []
    for index, (task, its) in enumerate(zip(tasks, new, strict=True)):
        for place, dependency in enumerate(its.deps):
            target = dependency.target
            parent = tasks[target] if isinstance(target, int) else parents[index, place]
            settled = not isinstance(target, int) and parent.state.terminal
            turn.dependencies.append(Dependency(parent.number, task.number, dependency.on, settled))
            parent.dependents += 1
            if not isinstance(target, int):
                turn.changed[parent.number] = parent
                if parent.flow != task.flow:
                    task.flags |= CLAIMING
                    claims.append((parent.flow, task.number))
            if not settled:
                task.waiting += 1
            elif not satisfies(parent.state, dependency.on):
                impossible[index] = machine.why_impossible(parent, dependency.on)
    if claims:
        rows.store.keys.claim(claims)
    return impossible


def _enter(turn: Turn, tasks: list[Task], new: list[NewTask], impossible: dict[int, str]) -> None:
    """The first states. What never waited for anything begins where it goes; the rest goes on from `blocked`.

    Args:
        impossible: why a task can never run, by its index.
    """
    held = turn.flows[tasks[0].flow].on_hold if tasks else False
    for index, (task, its) in enumerate(zip(tasks, new, strict=True)):
        if its.when is not None:
            turn.conditions.append((task.number, its.when))
        if held:
            task.state, task.hold, task.reason = State.HELD, Hold.PERSON, "its flow is held"
        elif task.waiting or task.flags & CONDITIONAL or index in impossible:
            task.state = State.BLOCKED
        elif task.due is not None:
            if machine.is_due(turn, task):
                task.due = None
            else:
                task.state = State.SCHEDULED
    turn.add_tasks([(task, its.body) for task, its in zip(tasks, new, strict=True)])
    for index, task in enumerate(tasks):
        if task.state is _READY:
            continue
        if index in impossible:
            turn.move(task, State.SKIPPED, impossible[index])
        elif task.state is State.BLOCKED:
            machine.proceed(turn, task)
