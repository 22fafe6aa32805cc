"""A submission in a turn: is it new, a repeat or the next chunk; what its tasks wait for; how they begin."""

from __future__ import annotations

from collections import defaultdict

from gemflowd.core import machine
from gemflowd.core.turn import Chunk, CursorKind, Turn
from gemflowd.engine.rows import Rows
from gemflowd.model.errors import Refused
from gemflowd.model.facts import NewDependency, NewTask, Submit, TaskNumber
from gemflowd.model.lane import LaneKey
from gemflowd.model.refs import NamedTask
from gemflowd.model.states import FlowState, State, satisfies
from gemflowd.model.task import Dependency, Flow, Task


def submit(rows: Rows, fact: Submit, *, accepting: bool = True) -> dict[str, object]:
    """Store a submission, or one chunk of it, and return the reply's body.

    Args:
        accepting: False while the daemon drains: only what is stored already is acknowledged again.

    Raises:
        Refused: nothing of this request was decided; the turn is as before.
    """
    turn = rows.turn
    flow = _flow_of(rows, fact.submission)
    if flow is not None:
        if (CursorKind.DISCARD, flow.number) in turn.cursors:
            raise Refused("conflict", f"flow f{flow.number} of this submission is being discarded", "submission")
        repeated = _repeat(rows, flow, fact)
        if repeated is not None:
            return _reply(flow, repeated, repeated=True)
        if flow.state != FlowState.OPEN:
            raise Refused(
                "submission_closed",
                f"flow f{flow.number} of this submission is complete and takes no more chunks",
                "submission",
            )
        if fact.offset != flow.received:
            raise Refused(
                "submission_offset", f"the next chunk begins at offset {flow.received}, not {fact.offset}", "offset"
            )
    if not accepting:
        raise Refused("draining", "the daemon is stopping; submit again when it is back")
    if flow is None and fact.offset:
        raise Refused("submission_offset", "this submission is not known: its first chunk begins at offset 0", "offset")

    parents = _find_parents(rows, flow, fact)
    if flow is None:
        flow = _new_flow(rows, fact)
    gate = flow.number if not (fact.complete and flow.received == 0) else 0
    first = rows.memory.next_task if fact.tasks else 0
    tasks = [_new_task(turn, flow, rows.memory.next_task + index, new, gate) for index, new in enumerate(fact.tasks)]
    rows.memory.next_task += len(tasks)
    impossible = _connect(turn, tasks, fact.tasks, parents)
    for index, (task, new) in enumerate(zip(tasks, fact.tasks, strict=True)):
        _enter(turn, task, new.body, impossible.get(index))

    chunk = Chunk(flow.number, fact.offset, len(tasks), first, fact.complete, fact.digest)
    turn.chunks.append(chunk)
    flow.first = flow.first or first
    flow.received += len(tasks)
    turn.changed_flows[flow.number] = flow
    if fact.complete:
        _complete(turn, flow)
    return _reply(flow, chunk, repeated=False)


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
    wanted = (flow.number, fact.offset, len(fact.tasks), fact.complete)
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


def _reply(flow: Flow, chunk: Chunk, *, repeated: bool) -> dict[str, object]:
    return {
        "flow": flow.number,
        "submission": flow.submission,
        "state": FlowState(flow.state).word,
        "first": chunk.first or None,
        "count": chunk.count,
        "received": flow.received,
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
        metadata=fact.metadata,
    )
    rows.memory.next_flow += 1
    rows.memory.remember_flow(flow)
    turn.flows[flow.number] = flow
    turn.new_flows.append(flow)
    turn.changed_flows[flow.number] = flow
    return flow


def _complete(turn: Turn, flow: Flow) -> None:
    """All is received: from now on it may run. The gate's lanes are opened; no row of a task is touched for it."""
    turn.move_flow(flow, FlowState.ACTIVE)
    for lane in turn.lanes.values():
        if lane.key.gate == flow.number and not lane.open:
            lane.open = True
            turn.changed_lanes[lane.number] = lane


def _new_task(turn: Turn, flow: Flow, number: int, new: NewTask, gate: int) -> Task:
    key = new.lane if not gate else LaneKey(new.lane.queue, new.lane.bucket, new.lane.kind, gate)
    return Task(
        number=number,
        flow=flow.number,
        id=new.id,
        type=new.type,
        state=State.READY,
        priority=new.priority,
        lane=machine.lane_for(turn, key).number,
        created=turn.now,
        timeout=new.timeout,
        retries=new.retries,
        backoff=new.backoff,
        due=new.due,
        inputs=len(new.deps),
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
                "duplicate_id", f"the flow has a task {name!r} already, in an earlier chunk", f"tasks[{ids[name]}].id"
            )
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
        name = f"task {target!r} in this flow (a dependency must be in the same or an earlier chunk)"
    if parent is None:
        raise Refused("unknown_dependency", f"there is no {name}", dependency.path)
    return parent


def _connect(turn: Turn, tasks: list[Task], new: list[NewTask], parents: dict[tuple[int, int], Task]) -> dict[int, str]:
    """Make the edges and count what each task waits for.

    Returns:
        Why a task can never run, by its index: a dependency had ended otherwise before.
    """
    impossible: dict[int, str] = {}
    for index, (task, its) in enumerate(zip(tasks, new, strict=True)):
        for place, dependency in enumerate(its.deps):
            target = dependency.target
            parent = tasks[target] if isinstance(target, int) else parents[index, place]
            settled = not isinstance(target, int) and parent.state.terminal
            turn.dependencies.append(Dependency(parent.number, task.number, dependency.on, settled))
            parent.dependents += 1
            if not isinstance(target, int):
                turn.changed[parent.number] = parent
            if not settled:
                task.waiting += 1
            elif not satisfies(parent.state, dependency.on):
                impossible[index] = machine.why_impossible(parent, dependency.on)
    return impossible


def _enter(turn: Turn, task: Task, body: bytes, impossible: str | None) -> None:
    task.state = State.BLOCKED if impossible else machine.first_state(task, turn.now)
    if task.state is State.READY:
        task.due = None
    turn.add_task(task, body)
    if impossible:
        turn.move(task, State.SKIPPED, impossible)
