"""The cache of model calls as the engine changes it. See `store.base.CacheTable`; what people read of it is `store.cache`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import apsw

from gemflowd.store.guard import guarded
from gemflowd.store.tables import CacheCount, CachedCall, NewCachedCall

_COUNTS: Final = CacheCount._fields[1:]
_PUT: Final = """INSERT INTO cache (number, key, model, stored, used, hits, size, usage, value)
    VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET (number, model, stored, used, hits, size, usage, value)
        = (excluded.number, excluded.model, excluded.stored, excluded.used, 0, excluded.size, excluded.usage, excluded.value)
        WHERE ? OR cache.number <= ?"""
_COUNT: Final = f"""INSERT INTO cache_count (model, {", ".join(_COUNTS)}) VALUES (?{", ?" * len(_COUNTS)})
    ON CONFLICT (model) DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in _COUNTS)}"""


class Cache:
    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    @guarded
    def find(self, key: bytes) -> CachedCall | None:
        row = self._db.execute("SELECT number, model, size, usage FROM cache WHERE key = ?", (key,)).fetchone()
        return CachedCall(*row) if row else None

    @guarded
    def put(self, new: NewCachedCall, *, replace: bool, cleared: int) -> bool:
        self._db.execute(_PUT, (*new, replace, cleared))
        return bool(self._db.changes())

    @guarded
    def touch(self, hits: Sequence[tuple[int, int]], now: float) -> None:
        sql = """UPDATE cache SET hits = hits + (hit.value ->> 1), used = ?2 FROM json_each(?1) AS hit
            WHERE number = (hit.value ->> 0)"""
        self._db.execute(sql, (json.dumps(hits), now))

    @guarded
    def oldest(self, cleared: int, limit: int) -> list[tuple[int, float, int]]:
        sql = "SELECT number, used, size FROM cache WHERE number > ? ORDER BY used, number LIMIT ?"
        return list(self._db.execute(sql, (cleared, limit)))

    @guarded
    def next_use(self) -> float | None:
        used: float | None = self._db.execute("SELECT used FROM cache ORDER BY used LIMIT 1").get
        return used

    @guarded
    def remove(self, numbers: Sequence[int]) -> None:
        self._db.execute("DELETE FROM cache WHERE number IN (SELECT value FROM json_each(?))", (json.dumps(numbers),))

    @guarded
    def cleared(self, cleared: int, limit: int) -> list[tuple[int, int]]:
        sql = "SELECT number, size FROM cache WHERE number <= ? ORDER BY number LIMIT ?"
        return list(self._db.execute(sql, (cleared, limit)))

    @guarded
    def count(self, counts: Sequence[CacheCount]) -> None:
        for one in counts:
            self._db.execute(_COUNT, one)
