"""What people ask about money and tokens: usage, budgets, and whether one of them is in a task's way. Read-only."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import apsw
import msgpack

from gemflowd.model.budget import Action, Budget, BudgetState, Scope, Target
from gemflowd.model.prices import MOST_TOKENS, model_of, money_of
from gemflowd.model.task import Task
from gemflowd.store.parts.budgets import COLUMNS, budget_from

Body = dict[str, Any]

_SUMS: Final = (
    "sum(attempts), sum(unpriced), sum(prompt), sum(cached), sum(output), sum(thoughts), sum(total), sum(cost),"
    " sum(standard)"
)
_NAMES: Final = (
    "attempts", "unpriced", "prompt_tokens", "cached_tokens", "output_tokens", "thought_tokens", "total_tokens",
)  # fmt: skip
_EPOCH: Final = datetime.date(1970, 1, 1)
#: Budgets that `status` names.
_NAMED: Final = 20


def usage(db: apsw.Connection, by: str, since: float | None, after: int, limit: int) -> Body:
    """What attempts have used, by `model`, `flow`, `day` or `tier`; of flows a page at a time, by number. `total` is of all of them, and
    on the first page alone."""
    first = 0 if since is None else int(since // 86_400)
    total = None if after else next(iter(db.execute(f"SELECT {_SUMS} FROM usage WHERE day >= ?", (first,))))
    if by == "flow":
        sql = f"SELECT flow, {_SUMS} FROM usage WHERE day >= ? AND flow > ? GROUP BY flow ORDER BY flow LIMIT ?"
        rows = list(db.execute(sql, (first, after, limit)))
    else:
        rows = list(db.execute(f"SELECT {by}, {_SUMS} FROM usage WHERE day >= ? GROUP BY {by} ORDER BY {by}", (first,)))
    names = _flow_names(db, [row[0] for row in rows]) if by == "flow" else {}
    shown = []
    for key, *sums in rows:
        item: Body = {by: _day(key) if by == "day" else key or None if by == "model" else key}
        if by == "flow":
            item["name"] = names.get(key)
        shown.append({**item, **_sums(sums)})
    following = rows[-1][0] if by == "flow" and len(rows) == limit else None
    return {"by": by, "usage": shown, "total": None if total is None else _sums(total), "next": following}


def _day(number: int) -> str:
    return (_EPOCH + datetime.timedelta(days=number)).isoformat()


def _sums(sums: Sequence[int | None]) -> Body:
    *counts, cost, standard = (value or 0 for value in sums)
    return {**dict(zip(_NAMES, counts, strict=True)), "cost": money_of(cost), "saved": money_of(standard - cost)}


def _flow_names(db: apsw.Connection, flows: list[int]) -> dict[int, str]:
    sql = "SELECT number, name FROM flow WHERE deleted = 0 AND number IN (SELECT value FROM json_each(?))"
    return dict(db.execute(sql, (json.dumps(flows),)))


def attempt_usage(packed: bytes | None) -> Body | None:
    """An attempt's usage as it is shown: its cost as an amount, None where it is not known."""
    if packed is None:
        return None
    found = _map(packed)
    if "cost_nano" in found:
        found["cost"] = money_of(found.pop("cost_nano"))
    return found


def _map(packed: bytes) -> Body:
    """Earlier versions have stored whatever a handler had put together."""
    found = msgpack.unpackb(packed, strict_map_key=False, unicode_errors="replace")
    return {name: value for name, value in found.items() if type(name) is str} if isinstance(found, dict) else {}


class TaskUsage:
    """What the attempts of one task have used together."""

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}
        self.nano: int | None = 0
        self.last: Body | None = None

    def add(self, packed: bytes) -> None:
        found = _map(packed)
        for name, value in found.items():
            if name.endswith("_tokens") and isinstance(value, int) and 0 <= value <= MOST_TOKENS:
                self.tokens[name] = self.tokens.get(name, 0) + value
        nano = found.get("cost_nano")
        self.nano = None if nano is None or self.nano is None else self.nano + nano
        self.last = attempt_usage(packed)

    def body(self) -> Body:
        return {**self.tokens, "cost": money_of(self.nano)}


def usages(db: apsw.Connection, tasks: str) -> dict[int, TaskUsage]:
    """Of tasks (their numbers as JSON) that have used something."""
    sql = """SELECT a.task, a.usage FROM json_each(?) j CROSS JOIN attempt a ON a.task = j.value
        WHERE a.usage IS NOT NULL ORDER BY a.task, a.number"""
    found: dict[int, TaskUsage] = {}
    for task, packed in db.execute(sql, (tasks,)):
        found.setdefault(task, TaskUsage()).add(packed)
    return found


def budgets(db: apsw.Connection, after: int, limit: int) -> Body:
    """All budgets in the order of their making, a page at a time."""
    sql = f"SELECT {COLUMNS} FROM budget WHERE number > ? ORDER BY number LIMIT ?"
    found = [budget_from(row) for row in db.execute(sql, (after, limit))]
    following = found[-1].number if len(found) == limit else None
    return {"budgets": [budget.body() for budget in found], "next": following}


def budget_of(db: apsw.Connection, scope: Scope, target: Target) -> Budget | None:
    row = db.execute(f"SELECT {COLUMNS} FROM budget WHERE scope = ? AND target = ?", (scope, target)).fetchone()
    return budget_from(row) if row else None


def body_of(db: apsw.Connection, scope: Scope, target: Target) -> Body:
    """`{budget}` for what has one, else nothing."""
    budget = budget_of(db, scope, target)
    return {} if budget is None else {"budget": budget.body()}


def held(db: apsw.Connection) -> list[Body]:
    """The first budgets that hold."""
    sql = f"SELECT {COLUMNS} FROM budget WHERE state = 2 ORDER BY number LIMIT ?"
    return [budget_from(row).body() for row in db.execute(sql, (_NAMED,))]


def waiting_models(db: apsw.Connection, scope: Scope, target: Target) -> list[str]:
    """The models that tasks call which a budget would be for: of a task or flow those that have not ended, else those that are ready."""
    if scope is Scope.TASK:
        sql = "SELECT DISTINCT l.bucket FROM task t JOIN lane l ON l.number = t.lane WHERE t.number = ?"
        rows = db.execute(sql, (target,))
    elif scope is Scope.FLOW:
        sql = """SELECT DISTINCT bucket FROM lane WHERE number IN
            (SELECT DISTINCT lane FROM task WHERE flow = ? AND state < 6)"""
        rows = db.execute(sql, (target,))
    else:
        where = "AND queue = ?" if scope is Scope.QUEUE else ""
        sql = f"""SELECT DISTINCT bucket FROM lane WHERE bucket IS NOT NULL {where}
            AND EXISTS (SELECT 1 FROM task WHERE state = 3 AND task.lane = lane.number)"""
        rows = db.execute(sql, (target,) if scope is Scope.QUEUE else ())
    return [model for (bucket,) in rows if (model := model_of(bucket)) is not None]


def in_the_way(db: apsw.Connection, task: Task, lane: Mapping[str, Any]) -> list[Body]:
    """The budgets that keep a ready task from starting.

    Args:
        lane: its `queue` and `bucket`.
    """
    model = model_of(lane["bucket"])
    if model is None:
        return []
    keys: list[tuple[Scope, Target]] = [
        (Scope.FLOW, task.flow), (Scope.QUEUE, lane["queue"]), (Scope.DAY, 0), (Scope.TOTAL, 0),
    ]  # fmt: skip
    found = [budget for scope, target in keys if (budget := budget_of(db, scope, target)) is not None]
    found = [budget for budget in found if budget.action is not Action.WARN]
    return [reason(budget) for budget in found if budget.state] or _first_call(db, model, lane["bucket"], found)


def _first_call(db: apsw.Connection, model: str, bucket: str, its: Sequence[Budget]) -> list[Body]:
    """The call of a model of which nothing is known yet that others wait for under the same budget."""
    if not its or db.execute("SELECT calls FROM model_use WHERE model = ? AND allows = 0", (model,)).get:
        return []
    sql = """SELECT t.number, r.budgets FROM reservation r JOIN task t ON t.number = r.task JOIN lane l ON l.number = t.lane
        WHERE t.state = 5 AND l.bucket = ?"""
    for number, numbers in db.execute(sql, (bucket,)):
        for budget in its:
            if budget.number in json.loads(numbers):
                message = f"task {number} makes the first call of {model}, which tells the budget of {budget.name} what they cost"
                return [{"code": "budget", "message": message, "budget": budget.body()}]
    return []


def reason(budget: Budget) -> Body:
    """As `explain` gives it."""
    if budget.state is BudgetState.WAITING:
        why = f"the budget of {budget.name} has no room beside what is in flight"
    elif budget.reason is not None:
        why = f"the budget of {budget.name} holds: {budget.reason}"
    else:
        why = f"the budget of {budget.name} is used up; `budget raise` goes on"
    return {"code": "budget", "message": why, "budget": budget.body()}
