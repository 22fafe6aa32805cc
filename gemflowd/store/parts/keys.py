"""Unique keys, claims of one flow on another, and submissions that are no flow of their own. See `store.base.KeyTable`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import apsw

from gemflowd.store.guard import guarded
from gemflowd.store.tables import Addition


class Keys:
    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    @guarded
    def holder(self, key: str, steady: float) -> int | None:
        sql = "SELECT task FROM unique_key WHERE key = ? AND (until IS NULL OR until > ?)"
        found: int | None = self._db.execute(sql, (key, steady)).get
        return found

    @guarded
    def take(self, key: str, task: int, until: float | None) -> None:
        self._db.execute("INSERT OR REPLACE INTO unique_key (key, task, until) VALUES (?, ?, ?)", (key, task, until))

    @guarded
    def free(self, tasks: Sequence[int]) -> None:
        numbers = (json.dumps(tasks),)
        self._db.execute(
            "DELETE FROM unique_key WHERE task IN (SELECT value FROM json_each(?)) AND until IS NULL", numbers
        )
        self._db.execute("DELETE FROM claim WHERE child IN (SELECT value FROM json_each(?))", numbers)

    @guarded
    def claim(self, claims: Sequence[tuple[int, int]]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO claim (flow, child) VALUES (?, ?)", claims)

    @guarded
    def claimed(self, flow: int) -> bool:
        return self._db.execute("SELECT 1 FROM claim WHERE flow = ? LIMIT 1", (flow,)).get is not None

    @guarded
    def addition(self, submission: str) -> Addition | None:
        sql = "SELECT flow, first, count, digest, grown FROM addition WHERE submission = ?"
        row = self._db.execute(sql, (submission,)).fetchone()
        return Addition(row[0], row[1], row[2], row[3], bool(row[4])) if row else None

    @guarded
    def added(self, flow: int) -> int:
        sql = "SELECT coalesce(sum(count), 0) FROM addition WHERE flow = ? AND grown = 1"
        count: int = self._db.execute(sql, (flow,)).get
        return count

    @guarded
    def add(self, submission: str, addition: Addition) -> None:
        sql = "INSERT INTO addition (submission, flow, first, count, digest, grown) VALUES (?, ?, ?, ?, ?, ?)"
        self._db.execute(sql, (submission, *addition))
