"""What becomes of a task: first state, outcome of an attempt, cancel, retry, due time, settled dependency.

Every function takes rows and facts and leaves its decision in the turn. No I/O, no clock, no log.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from gemflowd.core import another_way, budgets, limits
from gemflowd.core.retry import backoff, retries_for
from gemflowd.core.turn import CursorKind, Turn
from gemflowd.model.attempt import AttemptRecord, Ended, Kind, Outcome
from gemflowd.model.lane import Lane, LaneKey
from gemflowd.model.rules import Rules
from gemflowd.model.states import On, State, satisfies
from gemflowd.model.task import (
    AGAIN,
    CONDITIONAL,
    DUE_WALL,
    JUDGED,
    JUDGING,
    NOTED,
    UNMET,
    Flow,
    Hold,
    Task,
    agains,
)

_RUNNING, _DONE = State.RUNNING, Outcome.DONE  # a member by its name costs much before Python 3.12, see core.turn
#: Where the steps of ageing are counted from, so that they stay small. Any moment would do.
_AGE_ZERO: Final = 1_700_000_000.0
#: Ends of an attempt that come without a word of its handler.
_BROKEN_OFF: Final = (Outcome.CRASH, Outcome.SUSPECT, Outcome.LOST, Outcome.MEMORY)


#: Seconds of a flow's work that go together: very short tasks of one flow lie side by side in the database, too, and taking them
#: in turns with other flows one by one would touch a page for each. And how many at most.
_TOGETHER: Final = 0.02
_MOST_TOGETHER: Final = 256


def give_tag(turn: Turn, task: Task, virtual_time: float, mean: float) -> None:
    """Start-time fair queueing: a flow's next task comes one share after its last one, never before the present.

    Tasks that are so short that several are handed over at a time (`mean`, in seconds) come several at a time: they share a tag.
    Behind a gate that is shut no time passes: tags begin at 0 there, and opening it shifts the lane (`engine.submission`).
    """
    if task.tag != 0.0:
        if turn.rules.ageing <= 0:
            task.urgency = task.priority  # the rule may have changed while it was elsewhere
        elif task.urgency == task.priority:
            task.urgency = aged(turn.rules, task.priority, task.created)
        return
    task.urgency = aged(turn.rules, task.priority, turn.steady)
    if turn.rules.fair:
        flow = turn.flows[task.flow]
        lane = turn.lanes[task.lane]
        present = virtual_time if lane.open else 0.0
        flow.last_tag = max(present, flow.last_tag) + 1.0 / flow.weight
        together = max(1, min(_MOST_TOGETHER, int(_TOGETHER / mean))) / flow.weight
        flow.given = max(flow.given, math.ceil(flow.last_tag / together) * together)  # in order, whatever their types
        task.tag = flow.given - lane.shift
        turn.changed_flows[flow.number] = flow
    else:
        task.tag = float(task.number)


def aged(rules: Rules, priority: int, since: float) -> int:
    """The priority by which a task is ordered that waits since then: one step more for every `ageing` seconds.

    Between two waiting tasks only the difference counts, and that does not change while both wait: so it is written down
    once, as what is taken off for having come later.
    """
    return priority - int((since - _AGE_ZERO) // rules.ageing) if rules.ageing > 0 else priority


def proceed(turn: Turn, task: Task) -> None:
    """A task that waits goes on to the state that its dependencies, its `when` and its due time ask for."""
    if task.waiting:
        if task.state is not State.BLOCKED:
            turn.move(task, State.BLOCKED)
    elif task.flags & CONDITIONAL and not task.flags & JUDGED:
        task.flags |= JUDGING
        turn.changed[task.number] = task
        turn.cursor(CursorKind.JUDGE, 0)
    elif is_due(turn, task):
        task.due = None
        turn.move(task, State.READY)
    elif task.state is not State.SCHEDULED:
        turn.move(task, State.SCHEDULED)


def is_due(turn: Turn, task: Task) -> bool:
    """Whether nothing of its delay or date is left."""
    return task.due is None or task.due <= (turn.now if task.flags & DUE_WALL else turn.steady)


def settle_dependency(turn: Turn, parent: Task, child: Task, on: On) -> None:
    """`parent` ended; `child` waited for it. Tasks that were skipped or cancelled meanwhile have nothing left to settle."""
    if child.state.terminal:
        return
    child.waiting -= 1
    turn.changed[child.number] = child
    if turn.flows[child.flow].cancelled:
        turn.move(child, State.CANCELLED, "cancelled")
    elif not satisfies(parent.state, on):
        turn.move(child, State.SKIPPED, why_impossible(parent, on))
    elif child.waiting == 0 and child.state is State.BLOCKED:
        proceed(turn, child)


def why_impossible(parent: Task, on: On) -> str:
    """Why a task that asks `on` of `parent` is skipped."""
    return f"dependency {parent.id or parent.number} ended {parent.state.word}, needed {on.word}"


def due(turn: Turn, task: Task) -> None:
    """The time of a scheduled task has come."""
    if task.state is State.SCHEDULED:
        task.due = None
        turn.move(task, State.READY)


def expire(turn: Turn, task: Task) -> None:
    """A task has not started by the time that its submitter set."""
    if not task.state.terminal and task.state is not State.RUNNING:
        turn.move(task, State.SKIPPED, "expired before it could start")


def hold(turn: Turn, task: Task, why: Hold, reason: str) -> bool:
    """Keep what waits from starting. Returns whether it waited. What a person is asked about stays a question."""
    if task.state.terminal or task.state is State.RUNNING:
        return False
    task.flags &= ~JUDGING  # if it has not been judged yet, it is when it is released
    if task.state is State.HELD:
        if task.hold in (why, Hold.ASKED):
            return False
        task.hold, task.reason = why, reason
        turn.changed[task.number] = task
        return True
    task.hold = why
    turn.move(task, State.HELD, reason)
    return True


def release(turn: Turn, task: Task, *, whole: bool = False) -> bool:
    """Let what is held wait on as before. Returns whether it did.

    Args:
        whole: its flow is released, which is no answer to what the handler of one of its tasks asks.
    """
    if task.state is not State.HELD or (whole and task.hold == Hold.ASKED):
        return False
    task.hold = Hold.NONE
    proceed(turn, task)
    return True


def edit(turn: Turn, task: Task, priority: int) -> bool:
    """Another priority, for what has not ended. Returns whether that is a change."""
    if task.state.terminal or task.priority == priority:
        return False
    task.urgency += priority - task.priority
    task.priority = priority
    turn.changed[task.number] = task
    if task.state is State.READY:
        turn.became_ready.append(task)  # at its new place
    return True


def _again(turn: Turn, task: Task, reason: str, *, after: float | None = None, ask: bool = False) -> None:
    """The task goes back to the queue, after so many seconds; held if a person is to be asked, or where its flow is."""
    task.due = None if after is None else turn.steady + after
    task.flags &= ~DUE_WALL
    if ask or turn.flows[task.flow].on_hold:
        task.hold = Hold.ASKED if ask else Hold.PERSON
        turn.move(task, State.HELD, reason)
    elif task.waiting:  # for what it has added (`engine.waiting`)
        turn.move(task, State.BLOCKED, reason)
    else:
        turn.move(task, State.READY if after is None else State.SCHEDULED, reason)


def take_back(turn: Turn, task: Task, token: int) -> bool:
    """What was handed over but has not started comes back, at its old place and without an attempt on its record.

    Returns:
        Whether it did: only the live attempt can come back.
    """
    if task.state is not State.RUNNING or task.token != token:
        turn.refused_outcomes += 1
        return False
    limits.give_back(turn, turn.lanes[task.lane], task.number)
    if turn.accounts.reservations:
        budgets.give_back(turn, task)
    task.token += 1  # whatever the old slot may still say is void
    if task.cancelled:
        turn.move(task, State.CANCELLED, "cancelled")
    else:
        _again(turn, task, "taken back")
    return True


def outcome(turn: Turn, task: Task | None, ended: Ended, *, unclean: bool = False) -> None:
    """One attempt ended, as `record` says; where it is a success its task has ended, too. What is not live changes nothing."""
    if task is None or not is_live(task, ended):
        turn.refused_outcomes += 1
    elif record(turn, task, ended, unclean=unclean):
        turn.succeed((task,))


def is_live(task: Task, ended: Ended) -> bool:
    """Whether that is the attempt whose outcome counts."""
    return task.state is _RUNNING and task.token == ended.token


def record(turn: Turn, task: Task, ended: Ended, *, unclean: bool = False) -> bool:
    """The live attempt of a task ended: what it had is free, it is on the record, and what comes next is decided.

    Args:
        unclean: a `lost` that says something about the task: the daemon itself died while it ran.

    Returns:
        Whether it was a success. Then the task is to be told with `Turn.succeed`, together with others for which that is so.
    """
    lane = turn.lanes[task.lane]
    if ended.usage is not None or turn.accounts.reservations or (lane.shares and budgets.calls_a_model(lane)):
        ended = replace(ended, usage=budgets.settle(turn, task, ended))  # with its cost
    if lane.shares or turn.queues:
        limits.settle(turn, lane, ended)
    done = ended.outcome is _DONE
    if not done:
        ended = another_way.instead(task, ended, turn.rules.retries)
    turn.attempts.append(
        AttemptRecord(
            task.number,
            task.attempts + 1,
            task.slot or "",
            max(task.started or 0.0, turn.now - ended.seconds),  # it may have waited in its worker
            turn.now,
            ended.outcome,
            ended.seconds,
            None if done else ended.payload or None,
            ended.usage,
            ended.peak_kb,
        )
    )
    if done:
        turn.results.append((task.number, ended.payload))
        return True
    task.attempts += 1
    if ended.outcome in _BROKEN_OFF:
        _say_so(turn, task, ended)
    _without_success(turn, task, ended, unclean)
    return False


def _say_so(turn: Turn, task: Task, ended: Ended) -> None:
    """In the task's log: what an attempt has said that did not come to its end is not taken for all of it."""
    text = f"[attempt {task.attempts} broke off: {ended.cause or ended.outcome.word}]"
    line = (task.number, task.attempts, turn.now, "log", text)
    turn.logs.append(line)
    turn.log_lines.append(line)


def _without_success(turn: Turn, task: Task, ended: Ended, unclean: bool) -> None:
    """The table "How an attempt ends": what each outcome costs and what comes next."""
    kind = ended.outcome
    if task.cancelled or kind is Outcome.CANCELLED:
        turn.move(task, State.CANCELLED, "cancelled while it ran")
    elif kind is Outcome.ERROR or kind is Outcome.TIMEOUT:
        task.tries += 1
        retries = retries_for(task, ended.payload, turn.rules.retries)
        if task.tries > retries:
            turn.move(task, State.FAILED, f"{kind.word} in try {task.tries} of {retries + 1}")
        else:
            base = turn.rules.backoff if task.backoff is None else task.backoff
            reason = f"{kind.word} in try {task.tries} of {retries + 1}"
            _again(turn, task, reason, after=backoff(base, task.tries, turn.rng))
    elif kind is Outcome.PERMANENT:
        task.tries += 1
        turn.move(task, State.FAILED, kind.word)
    elif kind is Outcome.MEMORY:
        task.ooms += 1
        if task.ooms > turn.rules.memory_limit:
            turn.move(task, State.FAILED, f"over its memory cap {task.ooms} times: {ended.cause or 'memory'}")
        else:
            alone(turn, task)
            _again(turn, task, f"over its memory cap, runs again alone: {ended.cause or 'memory'}")
    elif kind is Outcome.RATE_LIMITED:
        # Where no limit sleeps for it the task itself waits: there is none, or it is a batch's, under which nothing is asked.
        asleep = limits.is_asleep(turn, turn.lanes[task.lane])
        _again(turn, task, "rate limited", after=None if asleep else limits.sleep_of(ended))
    elif kind is Outcome.AGAIN:
        if agains(task) >= another_way.MOST:
            turn.move(task, State.FAILED, f"its handler asked for another attempt more than {another_way.MOST} times")
            return
        task.flags = (task.flags | NOTED) + AGAIN
        task.expires = None  # it has started, and goes on
        way = _take_way(turn, task, ended)
        _again(turn, task, way.hold or way.reason, ask=way.hold is not None)
    elif kind is Outcome.PARKED:
        task.flags |= NOTED
        task.expires = None
        _again(turn, task, _take_way(turn, task, ended).reason, after=another_way.parked_for(ended))
    elif kind is Outcome.CRASH:
        task.crashes += 1
        cause = ended.cause or "unknown cause"
        if task.crashes >= turn.rules.crash_limit:
            turn.move(task, State.QUARANTINED, f"killed its worker {task.crashes} times: {cause}")
        else:
            _again(turn, task, f"killed its worker: {cause}")
    elif kind is Outcome.SUSPECT:
        alone(turn, task)
        _again(turn, task, "its worker died; runs again alone")
    else:
        assert kind is Outcome.LOST, kind
        task.losses += unclean
        if task.losses >= turn.rules.lost_limit:
            turn.move(task, State.QUARANTINED, f"ran at {task.losses} unclean ends of the daemon")
        else:
            _again(turn, task, "lost")


def _take_way(turn: Turn, task: Task, ended: Ended) -> another_way.Way:
    """Another limit for the task, where its handler says so."""
    way = another_way.noted(ended)
    if way.bucket is not None and way.bucket != turn.lanes[task.lane].key.bucket:
        _move(turn, task, replace(turn.lanes[task.lane].key, bucket=way.bucket))
        if way.anew:
            task.tries = 0
    return way


def go_elsewhere(turn: Turn, task: Task, error: bytes, bucket: str, reason: str) -> None:
    """A ready task goes on under another limit, with an attempt on its record that has asked nobody.

    Args:
        error: of that attempt, with its note for the next one.
    """
    task.attempts += 1
    turn.attempts.append(AttemptRecord(task.number, task.attempts, "", turn.now, turn.now, Outcome.AGAIN, 0.0, error))
    task.flags |= NOTED
    task.tries = 0
    task.reason = reason
    _move(turn, task, replace(turn.lanes[task.lane].key, bucket=bucket))
    turn.became_ready.append(task)


def alone(turn: Turn, task: Task) -> None:
    """From now on the task gets a blocking worker for itself, so that a crash has one culprit.

    Both lanes are of the same queue, so the counts stay right.
    """
    key = turn.lanes[task.lane].key
    if key.kind is Kind.COROUTINE:
        _move(turn, task, replace(key, kind=Kind.BLOCKING))


def _move(turn: Turn, task: Task, key: LaneKey) -> None:
    """To another lane of the same queue."""
    other = turn.lane_by_key.get(key) or new_lane(turn, key, shift=turn.lanes[task.lane].shift)
    task.lane = other.number
    turn.changed[task.number] = task


def lane_for(turn: Turn, key: LaneKey) -> Lane:
    """The lane of that key, made when there is none. A gated one is opened by the end of its submission."""
    return turn.lane_by_key.get(key) or new_lane(turn, key, opened=key.gate == 0)


def new_lane(turn: Turn, key: LaneKey, *, opened: bool = True, shift: float = 0.0) -> Lane:
    lane = Lane(max(turn.lanes, default=0) + 1, key, opened, shift)
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
    task.tries = task.losses = task.crashes = task.ooms = 0
    task.cancelled = False
    task.tag = 0.0  # a new place: at its old one it would come before all who have waited since
    task.flags = task.flags % AGAIN & ~(UNMET | JUDGING | JUDGED)
    if task.number in turn.freed:  # it ended in this very turn: what it had is not free
        turn.freed.remove(task.number)
    task.due = task.finished = task.expires = None
    task.waiting = blocked_by
    turn.dropped_results.append(task.number)
    # The table knows no way from an end to `held` or past a condition: it is blocked first, for as long as this call.
    must_wait = bool(blocked_by or task.flags & CONDITIONAL or turn.flows[task.flow].on_hold)
    turn.move(task, State.BLOCKED if must_wait else State.READY, "retried")
    if turn.flows[task.flow].on_hold:
        hold(turn, task, Hold.PERSON, "its flow is held")
    elif must_wait:
        proceed(turn, task)
    return True


def flow_left(flow: Flow) -> int:
    """How many tasks of a flow have not ended."""
    return sum(count for state, count in flow.counts.items() if not State(state).terminal)
