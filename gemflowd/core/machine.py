"""What becomes of a task: first state, outcome of an attempt, cancel, retry, due time, settled dependency.

Every function takes rows and facts and leaves its decision in the turn. No I/O, no clock, no log.
"""

from __future__ import annotations

from gemflowd.core import limits
from gemflowd.core.retry import backoff
from gemflowd.core.turn import Turn
from gemflowd.model.attempt import AttemptRecord, Ended, Kind, Outcome
from gemflowd.model.lane import Lane, LaneKey
from gemflowd.model.states import On, State, satisfies
from gemflowd.model.task import Flow, Task


def give_tag(turn: Turn, task: Task, virtual_time: float) -> None:
    """Start-time fair queueing: a flow's next task comes one share after its last one, never before the present."""
    if task.tag == 0.0:
        if turn.rules.fair:
            flow = turn.flows[task.flow]
            task.tag = max(virtual_time, flow.last_tag) + 1.0 / flow.weight
            flow.last_tag = task.tag
            turn.changed_flows[flow.number] = flow
        else:
            task.tag = float(task.number)


def first_state(task: Task, now: float) -> State:
    """Where a task begins, from its dependencies and due time."""
    if task.waiting:
        return State.BLOCKED
    return State.SCHEDULED if task.due is not None and task.due > now else State.READY


def unblock(turn: Turn, task: Task) -> None:
    """Nothing holds the task back any more, except its due time."""
    if task.due is not None and task.due > turn.now:
        turn.move(task, State.SCHEDULED)
    else:
        task.due = None
        turn.move(task, State.READY)


def settle_dependency(turn: Turn, parent: Task, child: Task, on: On) -> None:
    """`parent` ended; `child` waited for it. Tasks that were skipped or cancelled meanwhile have nothing left to settle."""
    if child.state.terminal:
        return
    child.waiting -= 1
    turn.changed[child.number] = child
    if not satisfies(parent.state, on):
        turn.move(child, State.SKIPPED, why_impossible(parent, on))
    elif child.waiting == 0 and child.state is State.BLOCKED:
        unblock(turn, child)


def why_impossible(parent: Task, on: On) -> str:
    """Why a task that asks `on` of `parent` is skipped."""
    return f"dependency {parent.id or parent.number} ended {parent.state.word}, needed {on.word}"


def due(turn: Turn, task: Task) -> None:
    """The time of a scheduled task has come."""
    if task.state is State.SCHEDULED:
        task.due = None
        turn.move(task, State.READY)


def start(turn: Turn, task: Task, slot: str) -> None:
    """Give the task a fresh token; from now on only that token's outcome counts."""
    task.token += 1
    task.started = turn.now
    task.slot = slot
    turn.move(task, State.RUNNING)
    limits.reserve(turn, turn.lanes[task.lane])


def take_back(turn: Turn, task: Task, token: int) -> bool:
    """What was handed over but has not started comes back, at its old place and without an attempt on its record.

    Returns:
        Whether it did: only the live attempt can come back.
    """
    if task.state is not State.RUNNING or task.token != token:
        turn.refused_outcomes += 1
        return False
    ended = Ended(task.number, token, Outcome.LOST, b"")
    limits.settle(turn, turn.lanes[task.lane], ended)
    task.token += 1  # whatever the old slot may still say is void
    if task.cancelled:
        turn.move(task, State.CANCELLED, "cancelled")
    else:
        turn.move(task, State.READY, "taken back")
    return True


def outcome(turn: Turn, task: Task | None, ended: Ended, *, unclean: bool = False) -> None:
    """An attempt ended.

    Args:
        task: its row, None where it exists no more.
        unclean: a `lost` that says something about the task: the daemon itself died while it ran.
    """
    if task is None or task.state is not State.RUNNING or task.token != ended.token:
        turn.refused_outcomes += 1
        return
    limits.settle(turn, turn.lanes[task.lane], ended)
    task.attempts += 1
    error = None if ended.outcome is Outcome.DONE else ended.payload
    turn.attempts.append(
        AttemptRecord(
            task=task.number,
            number=task.attempts,
            slot=task.slot or "",
            started=task.started or turn.now,
            finished=turn.now,
            outcome=ended.outcome,
            seconds=ended.seconds,
            error=error or None,
            usage=ended.usage,
            peak_kb=ended.peak_kb,
        )
    )
    _after(turn, task, ended, unclean)


def _after(turn: Turn, task: Task, ended: Ended, unclean: bool) -> None:
    """The table "How an attempt ends": what each outcome costs and what comes next."""
    kind = ended.outcome
    if kind is Outcome.DONE:
        turn.results.append((task.number, ended.payload))
        turn.move(task, State.SUCCEEDED)
    elif task.cancelled or kind is Outcome.CANCELLED:
        turn.move(task, State.CANCELLED, "cancelled while it ran")
    elif kind is Outcome.ERROR or kind is Outcome.TIMEOUT:
        task.tries += 1
        retries = turn.rules.retries if task.retries is None else task.retries
        if task.tries > retries:
            turn.move(task, State.FAILED, f"{kind.word} in try {task.tries} of {retries + 1}")
        else:
            base = turn.rules.backoff if task.backoff is None else task.backoff
            task.due = turn.now + backoff(base, task.tries, turn.rng)
            turn.move(task, State.SCHEDULED, f"{kind.word} in try {task.tries} of {retries + 1}")
    elif kind is Outcome.PERMANENT or kind is Outcome.MEMORY:
        task.tries += 1
        turn.move(task, State.FAILED, kind.word)
    elif kind is Outcome.RATE_LIMITED:
        if turn.lanes[task.lane].key.bucket is None:  # there is no limit to put to sleep: the task itself waits
            task.due = turn.now + limits.sleep_of(ended)
            turn.move(task, State.SCHEDULED, "rate limited")
        else:
            turn.move(task, State.READY, "rate limited")
    elif kind is Outcome.CRASH:
        task.crashes += 1
        if task.crashes >= turn.rules.crash_limit:
            turn.move(
                task, State.QUARANTINED, f"killed its worker {task.crashes} times: {ended.cause or 'unknown cause'}"
            )
        else:
            turn.move(task, State.READY, f"killed its worker: {ended.cause or 'unknown cause'}")
    elif kind is Outcome.SUSPECT:
        alone(turn, task)
        turn.move(task, State.READY, "its worker died; runs again alone")
    else:
        assert kind is Outcome.LOST, kind
        task.losses += unclean
        if task.losses >= turn.rules.lost_limit:
            turn.move(task, State.QUARANTINED, f"ran at {task.losses} unclean ends of the daemon")
        else:
            turn.move(task, State.READY, "lost")


def alone(turn: Turn, task: Task) -> None:
    """From now on the task gets a blocking worker for itself, so that a crash has one culprit.

    Both lanes are of the same queue, so the counts stay right.
    """
    key = turn.lanes[task.lane].key
    if key.kind is Kind.COROUTINE:
        task.lane = lane_for(turn, LaneKey(key.queue, key.bucket, Kind.BLOCKING, key.gate), opened=True).number
        turn.changed[task.number] = task


def lane_for(turn: Turn, key: LaneKey, *, opened: bool | None = None) -> Lane:
    """The lane of that key, made when there is none. A gated one is opened by the end of its submission, unless `opened`."""
    lane = turn.lane_by_key.get(key)
    if lane is None:
        lane = new_lane(turn, key, opened=key.gate == 0 if opened is None else opened)
    return lane


def new_lane(turn: Turn, key: LaneKey, *, opened: bool = True) -> Lane:
    lane = Lane(max(turn.lanes, default=0) + 1, key, opened)
    turn.lanes[lane.number] = lane
    turn.lane_by_key[key] = lane
    turn.new_lanes.append(lane)
    return lane


def cancel(turn: Turn, task: Task) -> str:
    """A person wants the task to end. Returns `cancelled`, `requested` or `unchanged`."""
    if task.state.terminal:
        return "unchanged"
    if task.state is State.RUNNING:
        if not task.cancelled:
            task.cancelled = True
            turn.changed[task.number] = task
        turn.cancel_requests.append((task.number, task.token))
        return "requested"
    turn.move(task, State.CANCELLED, "cancelled")
    return "cancelled"


def retry(turn: Turn, task: Task, blocked_by: int) -> bool:
    """A person wants another go at what ended without success. `blocked_by`: dependencies that aren't settled yet.

    Its tries, losses and crashes count from zero again; the attempts stay in its history.
    """
    if not task.state.terminal or task.state is State.SUCCEEDED:
        return False
    task.tries = task.losses = task.crashes = 0
    task.cancelled = False
    task.due = task.finished = None
    task.waiting = blocked_by
    turn.dropped_results.append(task.number)
    turn.move(task, State.BLOCKED if blocked_by else State.READY, "retried")
    return True


def flow_left(flow: Flow) -> int:
    """How many tasks of a flow have not ended."""
    return sum(count for state, count in flow.counts.items() if not State(state).terminal)
