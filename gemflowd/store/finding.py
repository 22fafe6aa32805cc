"""What references name, of what is there: flows that are being deleted are not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import apsw

from gemflowd.model.errors import Refused
from gemflowd.model.refs import FlowRef, NamedTask, Ref, TaskRange
from gemflowd.model.states import State
from gemflowd.model.task import Flow, Task
from gemflowd.store.sqlite import flow_from, task_from

#: The queries of queries.sql, by name.
Named = Mapping[str, str]
#: Of a task: its flow is not being deleted. There are few such flows at a time, and they are looked up once a statement.
_THERE: Final = "flow NOT IN (SELECT number FROM flow WHERE deleted = 1)"


def resolve(db: apsw.Connection, named: Named, refs: Sequence[Ref]) -> tuple[list[TaskRange], list[Flow]]:
    """What references name: tasks as ranges, and flows.

    Raises:
        Refused: `not_found`.
    """
    ranges: list[TaskRange] = []
    flows: list[Flow] = []
    for index, ref in enumerate(refs):
        path = f"refs[{index}]"
        if isinstance(ref, FlowRef):
            flows.append(flow_from(flow_row(db, named, ref.number, path)))
        elif isinstance(ref, NamedTask):
            row = db.execute(
                f"SELECT number FROM task WHERE flow = ? AND id = ? AND {_THERE}", (ref.flow, ref.id)
            ).fetchone()
            if row is None:
                raise Refused("not_found", f"there is no task f{ref.flow}/{ref.id}", path)
            ranges.append(TaskRange(row[0], row[0]))
        else:
            if not db.execute(
                f"SELECT 1 FROM task WHERE number BETWEEN ? AND ? AND {_THERE} LIMIT 1", (ref.first, ref.last)
            ).fetchone():
                many = ref.last > ref.first
                what = f"are no tasks {ref.first} to {ref.last}" if many else f"is no task {ref.first}"
                raise Refused("not_found", f"there {what}", path)
            ranges.append(ref)
    return ranges, flows


def flow_row(db: apsw.Connection, named: Named, number: int, path: str) -> Sequence[Any]:
    """Raises: Refused: `not_found`, at that path."""
    row: Sequence[Any] | None = db.execute(named["flow_row"], (number,)).fetchone()
    if row is None:
        raise Refused("not_found", f"there is no flow f{number}", path)
    return row


def states(db: apsw.Connection, named: Named, refs: Sequence[Ref]) -> dict[State, int]:
    """How many of the named tasks are in each state; each counts once, however often it is named."""
    ranges, flows = resolve(db, named, refs)
    counts: dict[State, int] = {}
    for flow in {flow.number: flow for flow in flows}.values():
        for state, count in flow.counts.items():
            counts[state] = counts.get(state, 0) + count
    whole = json.dumps([flow.number for flow in flows])
    for span in merged(ranges):
        for state, count in db.execute(named["states_in_range"], (span.first, span.last, whole)):
            counts[State(state)] = counts.get(State(state), 0) + count
    return counts


def one_task(db: apsw.Connection, named: Named, ref: Ref) -> Task:
    """The one task that a reference names."""
    try:
        ranges, _ = resolve(db, named, [ref])
    except Refused as refused:
        refused.path = "ref"
        raise
    if not ranges or ranges[0].first != ranges[0].last:
        raise Refused("invalid_value", "name one task", "ref")
    return task_from(next(iter(db.execute(named["tasks"], (json.dumps([ranges[0].first]),)))))


def merged(ranges: Sequence[TaskRange]) -> list[TaskRange]:
    """The same tasks in ranges that don't overlap."""
    found: list[TaskRange] = []
    for span in sorted(ranges, key=lambda span: span.first):
        if found and span.first <= found[-1].last + 1:
            found[-1] = TaskRange(found[-1].first, max(found[-1].last, span.last))
        else:
            found.append(span)
    return found
