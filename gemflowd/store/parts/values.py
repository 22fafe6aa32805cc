"""The shared memory as the engine changes it. See `store.base.ValueTable`; what people read of it is `store.shared_memory`."""

from __future__ import annotations

import apsw

from gemflowd.store.guard import guarded
from gemflowd.store.tables import HeldValue, NewValue


class Values:
    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    @guarded
    def held(self, namespace: str, key: str) -> HeldValue | None:
        # length() of a BLOB reads its head only, however large it is.
        sql = "SELECT version, length(value), until FROM value WHERE namespace = ? AND key = ?"
        row = self._db.execute(sql, (namespace, key)).fetchone()
        return HeldValue(*row) if row else None

    @guarded
    def put(self, namespace: str, key: str, new: NewValue) -> None:
        sql = """INSERT OR REPLACE INTO value (namespace, key, value, version, updated, until, task, attempt, client)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
        self._db.execute(sql, (namespace, key, *new))

    @guarded
    def delete(self, namespace: str, key: str) -> None:
        self._db.execute("DELETE FROM value WHERE namespace = ? AND key = ?", (namespace, key))

    @guarded
    def expired(self, steady: float, limit: int) -> list[tuple[str, str, int]]:
        sql = "SELECT namespace, key, length(value) FROM value WHERE until <= ? ORDER BY until LIMIT ?"
        return list(self._db.execute(sql, (steady, limit)))

    @guarded
    def next_expiry(self) -> float | None:
        found: float | None = self._db.execute("SELECT min(until) FROM value WHERE until IS NOT NULL").get
        return found
