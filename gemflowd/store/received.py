"""What is known of submissions: how far they were received, what repeats one, and the tasks that one names."""

from __future__ import annotations

import json
from typing import Any

import apsw

from gemflowd.model.errors import Refused
from gemflowd.model.states import FlowState
from gemflowd.store.finding import Named
from gemflowd.store.sqlite import flow_from

Body = dict[str, Any]


def submission(db: apsw.Connection, named: Named, submission: str) -> Body:
    """How far it was received. Raises: Refused: `not_found`."""
    row = db.execute(named["flow_of"], (submission,)).fetchone()
    if row is None:  # it may have been answered with another one's task, or have added to a flow
        sql = "SELECT f.submission FROM addition a JOIN flow f ON f.number = a.flow WHERE a.submission = ?"
        row = db.execute(named["flow_of"], (db.execute(sql, (submission,)).get,)).fetchone()
    if row is None or flow_from(row).deleted:
        raise Refused("not_found", "there is no such submission", "submission")
    flow = flow_from(row)
    added = "SELECT coalesce(sum(count), 0) FROM addition WHERE flow = ? AND grown = 1"
    grown = db.execute(added, (flow.number,)).get if flow.streaming else 0
    return {"flow": flow.number, "state": FlowState(flow.state).word, "received": flow.received - grown}


def repeats(
    db: apsw.Connection, named: Named, submission: str, offset: int, count: int, complete: bool, digest: bytes
) -> bool:
    """Whether that request of a submission is stored already, with the same content."""
    stored = db.execute(named["stored_digest"], (submission, offset, count, complete)).get
    return bool(stored == digest)


def locate(
    db: apsw.Connection,
    submission: str,
    grow: int | None,
    names: list[str],
    elsewhere: list[tuple[int, str]],
    numbers: list[int],
) -> Body:
    """Numbers of tasks by name: in the flow of a submission (or of a task that adds to it), or in other flows; and which of
    some numbers exist. What is being received or deleted elsewhere does not count."""
    by_name = "SELECT id, number FROM task WHERE flow = ? AND id IN (SELECT value FROM json_each(?))"
    own = db.execute("SELECT number FROM flow WHERE submission = ?", (submission,)).get
    if grow is not None:
        own = db.execute("SELECT flow FROM task WHERE number = ?", (grow,)).get
    found = dict(db.execute(by_name, (own, json.dumps(names)))) if own is not None else {}
    flows: dict[int, list[str]] = {}
    for flow, name in elsewhere:
        flows.setdefault(flow, []).append(name)
    others = {
        (flow, name): number
        for flow, its in flows.items()
        if flow == own or _settled_flow(db, flow)
        for name, number in db.execute(by_name, (flow, json.dumps(its)))
    }
    sql = "SELECT number, flow FROM task WHERE number IN (SELECT value FROM json_each(?))"
    rows = list(db.execute(sql, (json.dumps(numbers),)))
    good = {flow for flow in {flow for _, flow in rows} if flow == own or _settled_flow(db, flow)}
    return {"names": found, "elsewhere": others, "numbers": {number for number, flow in rows if flow in good}}


def _settled_flow(db: apsw.Connection, flow: int) -> bool:
    """Whether a flow is there to stay: neither being received nor being deleted."""
    return bool(db.execute("SELECT state <> 1 AND deleted = 0 FROM flow WHERE number = ?", (flow,)).get)
