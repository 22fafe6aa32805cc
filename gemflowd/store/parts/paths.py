"""A flow's tasks and dependencies as its critical path needs them: few columns, page by page. See `store.base.PathTable`."""

from __future__ import annotations

import apsw

from gemflowd.store.guard import guarded


class Paths:
    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    @guarded
    def next_flow(self) -> int | None:
        found: int | None = self._db.execute("SELECT number FROM flow WHERE ordering = 2 ORDER BY number LIMIT 1").get
        return found

    @guarded
    def chunks(self, flow: int, after: int, limit: int) -> list[tuple[int, int, int]]:
        sql = "SELECT start, count, first FROM chunk WHERE flow = ? AND start > ? AND count > 0 ORDER BY start LIMIT ?"
        return list(self._db.execute(sql, (flow, after, limit)))

    @guarded
    def estimates(self, first: int, last: int) -> list[tuple[int, str, float | None]]:
        sql = "SELECT number, type, estimate FROM task WHERE number BETWEEN ? AND ? ORDER BY number"
        return list(self._db.execute(sql, (first, last)))

    @guarded
    def edges(self, after: tuple[int, int], last: int, limit: int) -> list[tuple[int, int]]:
        sql = """SELECT parent, child FROM dependency WHERE (parent, child) > (?, ?) AND parent <= ?
            ORDER BY parent, child LIMIT ?"""
        return list(self._db.execute(sql, (*after, last, limit)))
