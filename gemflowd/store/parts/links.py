"""Dependencies that are stored and not taken apart yet, and what a `when` looks at. See `store.base.LinkTable`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import apsw

from gemflowd.model.states import State
from gemflowd.store.guard import guarded


class Links:
    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    @guarded
    def put(self, flow: int, rows: Sequence[tuple[int, bool, bytes]]) -> None:
        self._db.executemany(
            "INSERT INTO pending_edge (flow, task, last, edges) VALUES (?, ?, ?, ?)", [(flow, *row) for row in rows]
        )

    @guarded
    def next(self, flow: int, limit: int) -> list[tuple[int, int, bool, bytes]]:
        sql = "SELECT seq, task, last, edges FROM pending_edge WHERE flow = ? ORDER BY seq LIMIT ?"
        return [(seq, task, bool(last), edges) for seq, task, last, edges in self._db.execute(sql, (flow, limit))]

    @guarded
    def done(self, seqs: Sequence[int]) -> None:
        self._db.execute("DELETE FROM pending_edge WHERE seq IN (SELECT value FROM json_each(?))", (json.dumps(seqs),))

    @guarded
    def conditions(self, tasks: Sequence[int]) -> dict[int, str]:
        sql = "SELECT task, expression FROM condition WHERE task IN (SELECT value FROM json_each(?))"
        return dict(self._db.execute(sql, (json.dumps(tasks),)))

    @guarded
    def ends(self, task: int) -> list[tuple[int, str | None, State, int]]:
        sql = """SELECT t.number, t.id, t.state, coalesce(length(r.value), 0)
            FROM dependency d CROSS JOIN task t ON t.number = d.parent LEFT JOIN result r ON r.task = d.parent
            WHERE d.child = ? ORDER BY t.number"""
        return [(number, name, State(state), size) for number, name, state, size in self._db.execute(sql, (task,))]

    @guarded
    def errors(self, tasks: Sequence[int]) -> dict[int, bytes]:
        sql = """SELECT j.value, (SELECT error FROM attempt WHERE task = j.value ORDER BY number DESC LIMIT 1)
            FROM json_each(?) j"""
        return {task: error for task, error in self._db.execute(sql, (json.dumps(tasks),)) if error is not None}
