"""Result lines, a page at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import apsw

from gemflowd.model.ids import MAX_NUMBER
from gemflowd.model.refs import Ref, TaskRange
from gemflowd.model.states import FlowState
from gemflowd.model.task import Flow
from gemflowd.store import accounts
from gemflowd.store.finding import Named, resolve
from gemflowd.store.shown import End, result_line

Body = dict[str, Any]
#: Bytes of results in one page, about.
_PAGE_BYTES: Final = 8 * 1024 * 1024


def page(db: apsw.Connection, named: Named, refs: Sequence[Ref], after: int, limit: int) -> Body:
    """Lines of tasks that have ended, in order of submission."""
    return _lines(db, named, *resolve(db, named, refs), after, limit)


def in_order(db: apsw.Connection, named: Named, refs: Sequence[Ref], after: int, limit: int) -> Body:
    """The same without a gap: up to the first task that has not ended. `done`: nothing is left."""
    ranges, flows = resolve(db, named, refs)
    firsts = [db.execute(named["unended_in_flow"], (flow.number, after, limit)).get for flow in flows]
    for span in ranges:
        begin = max(after, span.first - 1)
        firsts.append(db.execute(named["unended_in_range"], (begin, span.last, limit)).get)
    first = min((number for number in firsts if number is not None), default=None)
    found = _lines(db, named, ranges, flows, after, limit, first)
    more = first is not None or found["next"] is not None or any(not FlowState(flow.state).terminal for flow in flows)
    last = found["results"][-1]["number"] if found["results"] else after
    return {"results": found["results"], "next": last, "done": not more}


def _lines(
    db: apsw.Connection,
    named: Named,
    ranges: Sequence[TaskRange],
    flows: Sequence[Flow],
    after: int,
    limit: int,
    before: int | None = None,
) -> Body:
    found: set[int] = set()
    last = MAX_NUMBER if before is None else before - 1
    for flow in flows:
        found.update(number for (number,) in db.execute(named["ended_in_flow"], (flow.number, after, last, limit)))
    for span in ranges:
        scope = (max(after, span.first - 1), min(span.last, last), limit)
        found.update(number for (number,) in db.execute(named["ended_in_range"], scope))
    numbers = sorted(found)[:limit]
    lines: list[Body] = []
    size = 0
    for start in range(0, len(numbers), 100):
        some, size = _that_fit(db, named, numbers[start : start + 100], size, first=not lines)
        ends = list(map(End._make, db.execute(named["results"], (json.dumps(some),))))
        used = [end.number for end in ends if end.has_used]
        usages = accounts.usages(db, json.dumps(used)) if used else {}
        lines += [result_line(end, usages.get(end.number)) for end in ends]
        if len(some) < len(numbers[start : start + 100]):
            return {"results": lines, "next": lines[-1]["number"]}
    return {"results": lines, "next": numbers[-1] if len(numbers) == limit else None}


def _that_fit(
    db: apsw.Connection, named: Named, numbers: list[int], size: int, *, first: bool
) -> tuple[list[int], int]:
    """Those whose results still fit on a page that has `size` bytes already, and its bytes then; at least one if `first`."""
    sizes = dict(db.execute(named["result_sizes"], (json.dumps(numbers),)))
    for index, number in enumerate(numbers):
        size += sizes.get(number, 0) + 200
        if size > _PAGE_BYTES and not (first and index == 0):
            return numbers[:index], size
    return numbers, size
