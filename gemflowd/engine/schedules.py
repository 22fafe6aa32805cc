"""Schedules in a turn: adding, pausing and removing them, and their runs.

A run is a flow of one task, by the way of every submission, in the transaction that moves the schedule on: it is never
lost and never there twice. While the daemon drains none is started (`engine.engine`); what was due then is judged at the
next start, by the schedule's `misfire`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import uuid
from typing import Any, Final

import msgpack

from gemflowd.core import machine
from gemflowd.core.schedules import Overlap, Plan, first_run, overlap, plan
from gemflowd.core.turn import CursorKind
from gemflowd.engine.budgets import check_prices
from gemflowd.engine.rows import Rows
from gemflowd.engine.submission import submit
from gemflowd.model.attempt import Kind
from gemflowd.model.budget import Action, NewBudget
from gemflowd.model.errors import Refused, echo
from gemflowd.model.event import SCHEDULE_TOPIC, Event
from gemflowd.model.facts import AddSchedule, NewTask, PauseSchedule, RemoveSchedule, Submit
from gemflowd.model.lane import LaneKey
from gemflowd.model.schedule import Schedule
from gemflowd.model.states import FlowState

log = logging.getLogger("gemflow.schedules")

#: Runs of one turn; runs that are looked at count a fifth each (up to some 0.1 ms).
MOST_RUNS: Final = 100
_LOOKED_AT: Final = 5
#: Schedules in all: they are listed whole.
MOST_SCHEDULES: Final = 10_000
#: Of the UUIDs of runs.
_NAMESPACE: Final = uuid.UUID("5f3f7f0e-5c0b-4d43-9d8b-0f5c9f0a6b6e")
#: Of the packed tasks. What an older version packed must be read for as long as its databases are.
_VERSION: Final = 1


# What people do


def add_schedule(rows: Rows, fact: AddSchedule) -> dict[str, Any]:
    """A new schedule, or another one in place of that name; what ran of the old one counts on.

    Raises:
        Refused: `conflict`, `too_many_schedules`, `no_price`, or `invalid_value` for what is no cron expression or no zone.
    """
    now, table = rows.turn.now, rows.store.schedules
    first = first_run(fact.cron, fact.zone, now)
    old = table.get(fact.name)
    if old is not None and not fact.replace:
        raise Refused("conflict", f"there is a schedule {echo(fact.name)} already; say `replace`, or remove it", "name")
    if old is None and table.count() >= MOST_SCHEDULES:
        raise Refused("too_many_schedules", f"there are {MOST_SCHEDULES} schedules already; remove one first", "name")
    packed = pack_task(fact.task)
    if fact.task.budget is not None:  # else each run would be refused
        try:
            check_prices(rows, None, _submission(fact.name, now, now, packed))
        except Refused as refused:
            raise Refused(refused.code, refused.message, "task.data.model") from None
    created = now
    if old is not None:
        _drop_waiting(rows, old, "replaced")
        created = max(now, math.nextafter(old.created, math.inf))  # no run of it has the UUID of one of the old one
    schedule = Schedule(
        name=fact.name,
        cron=fact.cron,
        zone=fact.zone,
        misfire=fact.misfire,
        misfire_limit=fact.misfire_limit,
        overlap=fact.overlap,
        paused=fact.paused,
        next_run=None if fact.paused else first,
        last_run=old.last_run if old else None,
        last_flow=old.last_flow if old else None,
        waiting=None,
        fired=old.fired if old else 0,
        skipped=old.skipped if old else 0,
        created=created,
    )
    table.put(schedule, fact.shown, packed)
    _tell(rows, schedule, "added")
    _look_again(rows)
    return schedule.body(msgpack.unpackb(fact.shown, strict_map_key=False))


def pause_schedule(rows: Rows, fact: PauseSchedule) -> dict[str, Any]:
    """Pause or resume. What was due meanwhile is not made up for, and what waited waits no longer.

    Raises:
        Refused: `not_found`.
    """
    schedule = _get(rows, fact.name)
    if schedule.paused != fact.paused:
        if fact.paused:
            _pause(rows, schedule)
        else:
            schedule.paused = False
            schedule.next_run = first_run(schedule.cron, schedule.zone, rows.turn.now)
            _tell(rows, schedule, "resumed")
        rows.store.schedules.update(schedule)
        _look_again(rows)
    return schedule.body(msgpack.unpackb(rows.store.schedules.shown(schedule.name), strict_map_key=False))


def remove_schedule(rows: Rows, fact: RemoveSchedule) -> dict[str, Any]:
    """Its flows stay.

    Raises:
        Refused: `not_found`.
    """
    schedule = _get(rows, fact.name)
    _drop_waiting(rows, schedule, "removed")
    rows.store.schedules.remove(schedule.name)
    _tell(rows, schedule, "removed")
    _look_again(rows)
    return {"name": schedule.name}


def _get(rows: Rows, name: str) -> Schedule:
    schedule = rows.store.schedules.get(name)
    if schedule is None:
        raise Refused("not_found", f"there is no schedule {echo(name)}", "name")
    return schedule


def _pause(rows: Rows, schedule: Schedule, **why: str) -> None:
    _drop_waiting(rows, schedule, "paused")
    schedule.paused, schedule.next_run = True, None
    _tell(rows, schedule, "paused", **why)


# Runs


def run_schedules(rows: Rows) -> None:
    """Runs that are due, and those that waited for an end that has come; of very many some, and the rest in the next turn."""
    turn, memory, table = rows.turn, rows.memory, rows.store.schedules
    left = MOST_RUNS
    while memory.unblocked and left > 0:
        _end_wait(rows, memory.unblocked.pop())
        left -= 1
    if memory.next_run is None or memory.next_run > turn.now:
        return
    for schedule in table.due(turn.now, max(left, 0)):
        if left <= 0:
            break
        left -= 1 + _run(rows, schedule, left)
        table.update(schedule)
    _look_again(rows)


def _run(rows: Rows, schedule: Schedule, most: int) -> int:
    """What is due of one schedule. Returns how much work it was."""
    try:
        it: Plan = plan(schedule, rows.turn.now, most)
    except Exception as error:
        # Its zone is not known to this machine any more, say. The others go on, and so does the daemon.
        log.exception("schedule %s is paused: its next run can't be told", schedule.name)
        _pause(rows, schedule, reason=f"its next run can't be told: {error}")
        return 0
    schedule.next_run = it.next_run
    if it.last_skipped is not None:
        _skip(rows, schedule, it.last_skipped, "missed", it.skipped)
    for run in it.fire:
        what = overlap(schedule, busy=_busy(rows, schedule))
        if what is Overlap.SKIP:
            _skip(rows, schedule, run, f"flow f{schedule.last_flow} has not ended")
        elif what is Overlap.WAIT:
            assert schedule.last_flow is not None
            schedule.waiting = run
            rows.memory.awaited[schedule.last_flow] = schedule.name
            _tell(rows, schedule, "queued", run_at=run)
        else:
            _fire(rows, schedule, run, replace=what is Overlap.REPLACE)
    return len(it.fire) + it.walked // _LOOKED_AT


def _end_wait(rows: Rows, name: str) -> None:
    """The flow that a run waited for may have ended."""
    schedule = rows.store.schedules.get(name)
    if schedule is None or schedule.waiting is None or _busy(rows, schedule):
        return
    run = schedule.waiting
    _forget_waiting(rows, schedule)
    _fire(rows, schedule, run)
    rows.store.schedules.update(schedule)


def _busy(rows: Rows, schedule: Schedule) -> bool:
    """Whether the last run has not ended."""
    flow = None if schedule.last_flow is None else rows.flow(schedule.last_flow)
    return flow is not None and not FlowState(flow.state).terminal and machine.flow_left(flow) > 0


def _fire(rows: Rows, schedule: Schedule, run: float, *, replace: bool = False) -> None:
    """Submit a run. What is refused is skipped."""
    packed = rows.store.schedules.task(schedule.name)
    try:
        fact = _submission(schedule.name, schedule.created, run, packed)
        body = submit(rows, fact)
    except Refused as refused:
        log.warning("schedule %s: a run is skipped: %s: %s", schedule.name, refused.code, refused.message)
        _skip(rows, schedule, run, f"{refused.code}: {refused.message}")
        return
    if body["repeated"]:  # the clock was set back, and somebody has resumed the schedule since
        _skip(rows, schedule, run, f"it is flow f{body['flow']} already")
        return
    if replace:
        _cancel_last(rows, schedule)
    schedule.last_run, schedule.last_flow = run, _number(body["flow"])
    schedule.fired += 1
    _tell(rows, schedule, "fired", flow=schedule.last_flow, run_at=run)


def _submission(name: str, created: float, run: float, packed: bytes) -> Submit:
    """The submission of a run. Raises: Refused: as `unpack_task`."""
    task = unpack_task(packed)
    return Submit(
        reply=lambda _: None,
        submission=str(uuid.uuid5(_NAMESPACE, f"{name}/{created!r}/{run!r}")),
        name=name,
        metadata=msgpack.packb({"schedule": name, "run_at": run}),
        weight=1.0,
        offset=0,
        complete=True,
        digest=hashlib.blake2b(packed, digest_size=16).digest(),
        tasks=[dataclasses.replace(task, budget=None)],
        budget=task.budget,
    )


def _number(value: object) -> int:
    assert isinstance(value, int), value
    return value


def _cancel_last(rows: Rows, schedule: Schedule) -> None:
    """As `cancel` of the flow does it, with nobody who waits for an answer."""
    flow = None if schedule.last_flow is None else rows.flow(schedule.last_flow)
    if flow is not None:
        flow.cancelled = True
        rows.turn.changed_flows[flow.number] = flow
        rows.turn.cursor(CursorKind.CANCEL, flow.number)


def _skip(rows: Rows, schedule: Schedule, run: float, reason: str, count: int = 1) -> None:
    schedule.skipped += count
    _tell(rows, schedule, "skipped", run_at=run, reason=reason, **({"count": count} if count > 1 else {}))


def _drop_waiting(rows: Rows, schedule: Schedule, reason: str) -> None:
    if schedule.waiting is not None:
        _skip(rows, schedule, schedule.waiting, reason)
        _forget_waiting(rows, schedule)


def _forget_waiting(rows: Rows, schedule: Schedule) -> None:
    schedule.waiting = None
    if schedule.last_flow is not None:
        rows.memory.awaited.pop(schedule.last_flow, None)


def _tell(rows: Rows, schedule: Schedule, what: str, **more: object) -> None:
    rows.turn.events.append(Event(SCHEDULE_TOPIC, {"schedule": schedule.name, "what": what, **more}))


def _look_again(rows: Rows) -> None:
    rows.memory.next_run = rows.store.schedules.next_run()


# The task, as it is stored

_PLAIN: Final = tuple(
    field.name
    for field in dataclasses.fields(NewTask)
    if field.name not in ("lane", "deps", "delay", "run_at", "expires", "when", "key", "budget")
)


def pack_task(task: NewTask) -> bytes:
    """A validated task without what a task of a schedule can't have: dependencies, dates of its own, a key, a condition."""
    packed = {name: getattr(task, name) for name in _PLAIN}
    lane = {
        "queue": task.lane.queue,
        "bucket": task.lane.bucket,
        "kind": int(task.lane.kind),
        "resources": task.lane.resources,
        "others": task.lane.others,
    }
    more = {} if task.budget is None else {"budget": [*task.budget]}
    return msgpack.packb({"version": _VERSION, **packed, "lane": lane, **more})  # type: ignore[no-any-return]


def unpack_task(packed: bytes) -> NewTask:
    """
    Raises:
        Refused: `internal`, a later version packed it.
    """
    values = msgpack.unpackb(packed)
    version = values.pop("version")
    if version != _VERSION:
        raise Refused("internal", f"its task is stored in version {version}, which this daemon can't read")
    lane = values.pop("lane")
    if (budget := values.pop("budget", None)) is not None:  # of the flow of each run
        money, tokens, action = budget
        values["budget"] = NewBudget(money, tokens, Action(action))
    return NewTask(**values, lane=LaneKey(**{**lane, "kind": Kind(lane["kind"])}))
