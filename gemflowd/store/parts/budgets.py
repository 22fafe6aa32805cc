"""Budgets, what is reserved in them, and what attempts have used. See `store.base.BudgetTable`; what people ask is `store.accounts`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import apsw
import msgpack

from gemflowd.core.turn import Turn
from gemflowd.model.budget import Action, Amount, Budget, BudgetState, ModelUse, Reservation, Scope, Target
from gemflowd.model.prices import tokens_of
from gemflowd.store.base import StoredAccounts
from gemflowd.store.guard import guarded
from gemflowd.store.sql import write_many

COLUMNS: Final = (
    "number, scope, target, money, tokens, action, state, reason, spent, spent_tokens, assumed, assumed_tokens,"
    " reserved, reserved_tokens, unpriced, warned, day, by_setting"
)
_WIDTH: Final = len(COLUMNS.split(","))
_USAGE: Final = "attempts, unpriced, prompt, cached, output, thoughts, total, cost, standard"


def budget_from(row: Sequence[Any]) -> Budget:
    (
        number, scope, target, money, tokens, action, state, reason, spent, spent_tokens, assumed, assumed_tokens,
        reserved, reserved_tokens, unpriced, warned, day, by_setting,
    ) = row  # fmt: skip
    return Budget(
        number,
        Scope(scope),
        target,
        money,
        tokens,
        Action(action),
        BudgetState(state),
        reason,
        Amount(spent, spent_tokens),
        Amount(assumed, assumed_tokens),
        Amount(reserved, reserved_tokens),
        unpriced,
        bool(warned),
        day,
        bool(by_setting),
    )


def _row(it: Budget) -> tuple[Any, ...]:
    return (
        it.number, it.scope, it.target, it.money, it.tokens, it.action, it.state, it.reason, *it.spent, *it.assumed,
        *it.reserved, it.unpriced, it.warned, it.day, it.by_setting,
    )  # fmt: skip


class Budgets:
    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    @guarded
    def load(self) -> StoredAccounts:
        """What is always in memory."""
        run = self._db.execute
        wide = run(f"SELECT {COLUMNS} FROM budget WHERE scope > ?", (Scope.FLOW,))
        there = "SELECT EXISTS (SELECT 1 FROM budget WHERE scope = ?)"
        return StoredAccounts(
            wide=[budget_from(row) for row in wide],
            has_flows=bool(run(there, (Scope.FLOW,)).get),
            has_tasks=bool(run(there, (Scope.TASK,)).get),
            reservations={
                task: Reservation(Amount(money, tokens), tuple(json.loads(budgets)), allows)
                for task, money, tokens, budgets, allows in run(
                    "SELECT task, money, tokens, budgets, allows FROM reservation"
                )
            },
            models={
                (model, allows): ModelUse(*its)
                for model, allows, *its in run("SELECT model, allows, calls, size, prompt, answered FROM model_use")
            },
            next_number=(run("SELECT max(number) FROM budget").get or 0) + 1,
        )

    @guarded
    def add(self, budgets: Sequence[Budget]) -> None:
        write_many(
            self._db,
            f"INSERT OR REPLACE INTO budget ({COLUMNS}) VALUES {{values}}",
            _WIDTH,
            [_row(it) for it in budgets],
        )

    @guarded
    def remove(self, scope: Scope, target: Target) -> None:
        self._db.execute("DELETE FROM budget WHERE scope = ? AND target = ?", (scope, target))

    @guarded
    def of(self, scope: Scope, targets: Sequence[int]) -> list[Budget]:
        sql = f"SELECT {COLUMNS} FROM budget WHERE scope = ? AND target IN (SELECT value FROM json_each(?))"
        return [budget_from(row) for row in self._db.execute(sql, (scope, json.dumps(targets)))]

    @guarded
    def used(self, scope: Scope, target: Target, day: int) -> tuple[Amount, int]:
        if scope is Scope.TASK:
            return self._used_by_task(target)
        if scope not in (Scope.FLOW, Scope.DAY):
            return Amount(), 0
        where, value = ("flow = ?", target) if scope is Scope.FLOW else ("day = ?", day)
        sql = f"SELECT coalesce(sum(cost), 0), coalesce(sum(total), 0), coalesce(sum(unpriced), 0) FROM usage WHERE {where}"
        cost, total, unpriced = next(iter(self._db.execute(sql, (value,))))
        return Amount(cost, total), unpriced

    def _used_by_task(self, task: Target) -> tuple[Amount, int]:
        used, unpriced = Amount(), 0
        sql = "SELECT usage FROM attempt WHERE task = ? AND usage IS NOT NULL"
        for (packed,) in self._db.execute(sql, (task,)):
            usage = msgpack.unpackb(packed, strict_map_key=False, unicode_errors="surrogatepass")
            if not isinstance(usage, dict):  # an earlier version has stored it
                continue
            cost = usage.get("cost_nano")
            used = used.plus(Amount(cost or 0, tokens_of(usage).total))
            unpriced += cost is None
        return used, unpriced

    @guarded
    def reopen_unpriced(self) -> int:
        before = self._db.total_changes()
        self._db.execute("UPDATE budget SET state = 0, reason = NULL WHERE state = 2 AND reason IS NOT NULL")
        return self._db.total_changes() - before

    @guarded
    def write(self, turn: Turn) -> None:
        """What the turn has decided."""
        if turn.changed_budgets:
            self._write_budgets(list(turn.changed_budgets.values()))
        made = [
            (task, *it.amount, json.dumps(it.budgets), it.allows)
            for task, it in turn.reservations.items()
            if it is not None
        ]
        gone = [task for task, it in turn.reservations.items() if it is None]
        if gone:
            self._db.execute(
                "DELETE FROM reservation WHERE task IN (SELECT value FROM json_each(?))", (json.dumps(gone),)
            )
        write_many(
            self._db,
            "INSERT OR REPLACE INTO reservation (task, money, tokens, budgets, allows) VALUES {values}",
            5,
            made,
        )
        names = _USAGE.split(", ")
        write_many(
            self._db,
            f"INSERT INTO usage (day, model, flow, tier, {_USAGE}) VALUES {{values}}"
            " ON CONFLICT (day, model, flow, tier) DO UPDATE SET "
            + ", ".join(f"{name} = {name} + excluded.{name}" for name in names),
            4 + len(names),
            [(*key, *row) for key, row in turn.usage.items()],
        )
        write_many(
            self._db,
            "INSERT OR REPLACE INTO model_use (model, allows, calls, size, prompt, answered) VALUES {values}",
            6,
            [(*calls, it.calls, it.size, it.prompt, it.answered) for calls, it in turn.changed_models.items()],
        )

    def _write_budgets(self, budgets: list[Budget]) -> None:
        """Those that are there still: one that was removed in the same turn must not come back."""
        names = COLUMNS.replace(" ", "").split(",")
        aliases = ", ".join(f"c{index}" for index in range(1, _WIDTH))
        write_many(
            self._db,
            f"WITH v(n, {aliases}) AS (VALUES {{values}}) UPDATE budget SET ({', '.join(names[1:])}) = ({aliases})"
            " FROM v WHERE budget.number = v.n",
            _WIDTH,
            [_row(it) for it in budgets],
        )

    @guarded
    def forget(self, tasks: Sequence[int], flows: Sequence[int]) -> None:
        """Tasks and flows that are gone."""
        for scope, targets in ((Scope.TASK, tasks), (Scope.FLOW, flows)):
            if targets:
                sql = "DELETE FROM budget WHERE scope = ? AND target IN (SELECT value FROM json_each(?))"
                self._db.execute(sql, (scope, json.dumps(targets)))
