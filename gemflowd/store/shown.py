"""How a task, a flow and an outcome are shown: the bodies that answers are made of."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import apsw
import msgpack

from gemflowd.model.attempt import Outcome
from gemflowd.model.budget import Scope
from gemflowd.model.lane import amounts
from gemflowd.model.states import FlowState, On, State
from gemflowd.model.task import Flow, Ordering, Task, shown_id
from gemflowd.store import accounts
from gemflowd.store.finding import Named, flow_row
from gemflowd.store.sql import FLOW_COLUMNS
from gemflowd.store.sqlite import flow_from

Body = dict[str, Any]
_FLOW_WIDTH: Final = len(FLOW_COLUMNS.split(","))
#: For what is made for every line: a member by its name and its word cost more than the rest of it, before Python 3.12.
_WORDS: Final = {int(state): state.word for state in State}
_SUCCEEDED: Final = int(State.SUCCEEDED)


def flow(db: apsw.Connection, named: Named, number: int) -> Body:
    """All that is known of a flow. Raises: Refused: `not_found`."""
    row = flow_row(db, named, number, "ref")
    return {
        **flow_body(db, flow_from(row)),
        "metadata": msgpack.unpackb(row[_FLOW_WIDTH]) if row[_FLOW_WIDTH] else {},
    }


def task(db: apsw.Connection, named: Named, task: Task) -> Body:
    """All that is known of a task."""
    body = msgpack.unpackb(
        db.execute("SELECT value FROM body WHERE task = ?", (task.number,)).get, strict_map_key=False
    )
    queue_name = db.execute("SELECT queue FROM lane WHERE number = ?", (task.lane,)).get
    attempts = [
        {
            "number": row[0],
            "worker": row[1],
            "started": row[2],
            "finished": row[3],
            "outcome": Outcome(row[4]).word,
            "seconds": row[5],
            "error": msgpack.unpackb(row[6], strict_map_key=False) if row[6] else None,
            "usage": accounts.attempt_usage(row[7]),
            "peak_kb": row[8],
        }
        for row in db.execute(named["attempts"], (task.number,))
    ]
    deps = [
        {
            "number": number,
            "flow": flow,
            "id": shown_id(name, flags),
            "on": On(on).word,
            "state": State(state).word,
        }
        for number, flow, name, flags, on, state in db.execute(named["deps_of"], (task.number,))
    ]
    shown = {
        **task_body(task, queue_name),
        "data": body["data"],
        "metadata": body.get("metadata", {}),
        "timeout": task.timeout,
        "retries": task.retries,
        "due": task.due,
        **_rules_of(db, task),
        **accounts.body_of(db, Scope.TASK, task.number),
        "deps": deps,
        "dependents": [child for (child,) in db.execute(named["dependents_of"], (task.number,))],
        "attempts_log": attempts,
    }
    if task.state is State.SUCCEEDED:
        value = db.execute("SELECT value FROM result WHERE task = ?", (task.number,)).get
        shown["result"] = msgpack.unpackb(value, strict_map_key=False)
        if attempts and attempts[-1]["usage"] is not None:
            _add_cost(shown["result"], attempts[-1]["usage"])
    elif task.state.terminal:
        shown["error"] = _error(task.state, task.reason, attempts[-1]["error"] if attempts else None)
    return shown


def _rules_of(db: apsw.Connection, task: Task) -> Body:
    """What else was asked for a task, as far as it is kept."""
    run = db.execute
    resources = run("SELECT resources FROM lane WHERE number = ?", (task.lane,)).get
    return {
        "when": run("SELECT expression FROM condition WHERE task = ?", (task.number,)).get,
        "expires": task.expires,
        "key": run("SELECT key FROM unique_key WHERE task = ?", (task.number,)).get,
        "resources": dict(amounts(resources)),
        "retry_on": json.loads(task.rules) if task.rules else {},
        "depth": task.depth,
        "estimate": task.estimate,
    }


def flow_body(db: apsw.Connection, flow: Flow) -> Body:
    """A flow as `status` has it."""
    return {
        "kind": "flow",
        "flow": flow.number,
        "name": flow.name,
        "state": FlowState(flow.state).word,
        "submission": flow.submission,
        "created": flow.created,
        "finished": flow.finished,
        "total": flow.received,
        "ordering": flow.ordering == Ordering.NOW,
        "tasks": {state.word: count for state, count in flow.counts.items()},
        **accounts.body_of(db, Scope.FLOW, flow.number),
    }


def task_body(task: Task, queue_name: str) -> Body:
    """A task as `list` has it."""
    return {
        "kind": "task",
        "number": task.number,
        "id": shown_id(task.id, task.flags),
        "flow": task.flow,
        "type": task.type,
        "state": task.state.word,
        "priority": task.priority,
        "queue": queue_name,
        "created": task.created,
        "started": task.started,
        "finished": task.finished,
        "attempts": task.attempts,
        "reason": task.reason,
        "worker": task.slot,
        "memory_mb": task.memory_mb,
    }


def _error(state: State, reason: str | None, last: Body | None) -> Body:
    """Why a task ended without a result."""
    if last is not None and state in (State.FAILED, State.QUARANTINED):
        return {key: last[key] for key in ("class", "code", "message") if key in last}
    return {"class": state.word.capitalize(), "code": state.word, "message": reason or state.word}


def _add_cost(result: Any, usage: Body) -> None:
    """To the usage that a result has itself, as the handler gave it."""
    its = result.get("usage") if isinstance(result, dict) else None
    if isinstance(its, dict):
        its["cost"] = usage.get("cost")


class End(NamedTuple):
    """What a task came to, as the query `results` has it. `value` and `error` are MessagePack."""

    number: int
    flow: int
    id: str | None
    flags: int
    type: str
    state: int
    attempts: int
    reason: str | None
    value: bytes | None
    error: bytes | None
    seconds: float | None  # of the last attempt
    has_used: int  # whether one of its attempts may have a usage


def result_line(end: End, usage: accounts.TaskUsage | None) -> Body:
    """An end as `results` has it."""
    ok = end.state == _SUCCEEDED
    line: Body = {
        "id": shown_id(end.id, end.flags),
        "number": end.number,
        "flow": end.flow,
        "type": end.type,
        "state": _WORDS[end.state],
        "ok": ok,
    }
    if end.value is not None and ok:
        line["result"] = result = msgpack.unpackb(end.value, strict_map_key=False)
        if usage is not None and usage.last is not None:
            _add_cost(result, usage.last)
    else:
        error = msgpack.unpackb(end.error, strict_map_key=False) if end.error else None
        line["error"] = _error(State(end.state), end.reason, error)
    line["attempts"] = end.attempts
    line["seconds"] = end.seconds
    if usage is not None:
        line["usage"] = usage.body()
    return line
