"""Why a task is not running, as far as it is stored: dependencies, time, hold, queue, limit, resources, and what is ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import apsw

from gemflowd.core.devices import fits
from gemflowd.model.attempt import Kind
from gemflowd.model.budget import Scope
from gemflowd.model.lane import GPU, amounts
from gemflowd.model.states import On, State
from gemflowd.model.task import DUE_WALL, Hold, Ordering, Task, shown_id
from gemflowd.store import accounts

Body = dict[str, Any]
#: Dependencies that are named, and tasks ahead that are counted.
_MOST_DEPS: Final = 20
MOST_AHEAD: Final = 10_000


def explain(
    db: apsw.Connection,
    named: Mapping[str, str],
    task: Task,
    resources: Mapping[str, float],
    devices: Sequence[float],
) -> Body:
    """The body of `explain`, without what only the daemon's other rooms know, and with what they need for it: the `kind` of its worker,
    `bucket`, `priority` and `size`.

    Args:
        named: the queries of queries.sql.
        resources: the named amounts that there are.
        devices: of each GPU its free share; none where none are known.
    """
    queue, bucket, kind, opened, needs = db.execute(
        "SELECT queue, bucket, kind, open, resources FROM lane WHERE number = ?", (task.lane,)
    ).get
    reasons: list[Body] = []
    if task.state.terminal:
        reasons.append(
            {"code": "ended", "message": f"it has {task.state.word}" + (f": {task.reason}" if task.reason else "")}
        )
    elif task.state is State.RUNNING:
        reasons.append({"code": "running", "message": f"it runs in {task.slot}"})
    elif task.state is State.BLOCKED:
        reasons.append(_blocked(db, named, task))
    elif task.state is State.SCHEDULED:
        why = f" ({task.reason})" if task.reason else ""
        clock = "" if task.flags & DUE_WALL else " (a duration: setting the clock does not change it)"
        reasons.append({"code": "scheduled", "due": task.due, "message": f"it is not due yet{why}{clock}"})
    elif task.state is State.HELD:
        if task.hold == Hold.HANDLER:
            reasons.append({"code": "missing_handler", "type": task.type, "message": task.reason or ""})
        elif task.hold == Hold.BUDGET and (own := accounts.budget_of(db, Scope.TASK, task.number)) is not None:
            reasons.append(accounts.reason(own))
        elif task.hold == Hold.ASKED:
            whole = db.execute("SELECT on_hold FROM flow WHERE number = ?", (task.flow,)).get
            first = f"`release f{task.flow}`, then " if whole else ""
            message = f"{task.reason or 'held'}; {first}`release {task.number}` lets it go on"
            reasons.append({"code": "held", "why": task.reason, "message": message})
        else:
            fields: Body = {}
            whole = db.execute("SELECT on_hold FROM flow WHERE number = ?", (task.flow,)).get
            what = f"the whole flow is held: `release f{task.flow}`" if whole else "`release`"
            errors = db.execute("SELECT most FROM max_errors WHERE flow = ? AND stopped = 1", (task.flow,)).get
            if whole and errors is not None:
                fields["max_errors"] = errors
                what = f"too many tasks of its flow have failed (max_errors {errors}): `release f{task.flow}`"
            reasons.append(
                {
                    "code": "held",
                    "why": task.reason,
                    **fields,
                    "message": f"{task.reason or 'held'}; {what} lets it go on",
                }
            )
    else:
        if not opened:
            reasons.append(_gate(db, task.flow))
        reasons += _queue(db, queue)
        reasons += accounts.in_the_way(db, task, {"queue": queue, "bucket": bucket})
        reasons += _resources(db, needs, resources, devices)
        reasons += _ahead(db, task, Kind(kind))
    return {
        "number": task.number,
        "flow": task.flow,
        "state": task.state.word,
        "reasons": reasons,
        "kind": Kind(kind).word,
        "bucket": bucket,
        "priority": task.priority,
        "size": task.size,
    }


def _gate(db: apsw.Connection, flow: int) -> Body:
    if db.execute("SELECT ordering FROM flow WHERE number = ?", (flow,)).get == Ordering.NOW:
        return {"code": "ordering", "message": f"flow f{flow} is being put in order by its critical path"}
    return {"code": "receiving", "message": f"flow f{flow} is still being received"}


def _blocked(db: apsw.Connection, named: Mapping[str, str], task: Task) -> Body:
    sql = named["deps_of"].rstrip(";").replace("ORDER BY", "AND d.settled = 0 ORDER BY") + f" LIMIT {_MOST_DEPS}"
    deps = [
        {
            "number": number,
            "id": shown_id(name, flags),
            "flow": flow,
            "on": On(on).word,
            "state": State(state).word,
        }
        for number, flow, name, flags, on, state in db.execute(sql, (task.number,))
    ]
    return {
        "code": "blocked",
        "deps": deps,
        "waiting": task.waiting,
        "message": f"it waits for {task.waiting} of {task.inputs} dependencies",
    }


def _queue(db: apsw.Connection, queue: str) -> list[Body]:
    row = db.execute("SELECT paused, most FROM queue WHERE name = ?", (queue,)).fetchone()
    if row is None:
        return []
    paused, most = row
    if paused:
        return [{"code": "queue_paused", "queue": queue, "message": f"the queue {queue} is paused; `resume` it"}]
    running = db.execute("SELECT count FROM counter WHERE queue = ? AND state = 5", (queue,)).get or 0
    if most is not None and running >= most:
        message = f"the queue {queue} runs at most {most} at a time"
        return [{"code": "queue_limit", "queue": queue, "limit": most, "running": running, "message": message}]
    return []


def _resources(db: apsw.Connection, needs: str, total: Mapping[str, float], devices: Sequence[float]) -> list[Body]:
    if not needs:
        return []
    used: dict[str, float] = {}
    sql = "SELECT l.resources, count(*) FROM task t JOIN lane l ON l.number = t.lane WHERE t.state = 5 GROUP BY t.lane"
    for held, count in db.execute(sql):
        for name, amount in amounts(held):
            used[name] = used.get(name, 0.0) + amount * count
    found = []
    for name, amount in amounts(needs):
        there = total.get(name, 0.0)
        if used.get(name, 0.0) + amount > there + 1e-9:
            message = f"it needs {amount:g} of {name}; {used.get(name, 0.0):g} of {there:g} are in use"
            fields = {"resource": name, "needed": amount, "total": there, "used": used.get(name, 0.0)}
            found.append({"code": "resource", **fields, "message": message})
        elif name == GPU and devices and not fits(devices, amount):
            found.append(_devices(devices, amount))
    return found


def _devices(free: Sequence[float], needed: float) -> Body:
    """There may be enough in all, but not of one device, or not as whole ones."""
    what = "as whole devices" if needed >= 1 else "as a share of one device"
    message = f"it needs {needed:g} of gpu {what}; free of each: {', '.join(f'{share:.2g}' for share in free)}"
    fields = {"resource": GPU, "needed": needed, "total": float(len(free)), "used": len(free) - sum(free)}
    return {"code": "resource", **fields, "message": message}


def _ahead(db: apsw.Connection, task: Task, kind: Kind) -> list[Body]:
    """Ready tasks for the same kind of worker that come first, in lanes that are open and not paused."""
    shift = db.execute("SELECT shift FROM lane WHERE number = ?", (task.lane,)).get
    lanes = db.execute(
        """SELECT number, shift FROM lane WHERE kind = ? AND open = 1
        AND queue NOT IN (SELECT name FROM queue WHERE paused = 1)""",
        (int(kind),),
    )
    ahead = 0
    tag = task.tag + shift
    for lane, its_shift in list(lanes):
        at = tag - its_shift
        count = db.execute(
            """SELECT count(*) FROM (
            SELECT 1 FROM task WHERE state = 3 AND lane = ?1 AND urgency > ?2
            UNION ALL SELECT 1 FROM task WHERE state = 3 AND lane = ?1 AND urgency = ?2 AND (tag, number) < (?3, ?4)
            LIMIT ?5)""",
            (lane, task.urgency, at, task.number, MOST_AHEAD + 1 - ahead),
        ).get
        ahead += count
        if ahead > MOST_AHEAD:
            break
    if not ahead:
        return []
    more = ahead > MOST_AHEAD
    ahead = min(ahead, MOST_AHEAD)
    message = f"{'more than ' if more else ''}{ahead} task{'s start' if ahead > 1 else ' starts'} before it"
    return [{"code": "behind", "ahead": ahead, "more": more, "message": message}]
