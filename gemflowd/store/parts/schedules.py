"""Schedules. See `store.base.ScheduleTable`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw

from gemflowd.model.schedule import Schedule
from gemflowd.store.guard import guarded

#: Columns in the order of the fields of `model.schedule.Schedule`.
COLUMNS: Final = (
    "name, cron, zone, misfire, misfire_limit, overlap, paused, next_run, last_run, last_flow, waiting, fired, skipped,"
    " created"
)


def schedule_from(row: Sequence[Any]) -> Schedule:
    schedule = Schedule(*row)
    schedule.paused = bool(schedule.paused)
    return schedule


class Schedules:
    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    @guarded
    def get(self, name: str) -> Schedule | None:
        row = self._db.execute(f"SELECT {COLUMNS} FROM schedule WHERE name = ?", (name,)).fetchone()
        return schedule_from(row) if row else None

    @guarded
    def task(self, name: str) -> bytes:
        task: bytes = self._db.execute("SELECT task FROM schedule WHERE name = ?", (name,)).get
        return task

    @guarded
    def shown(self, name: str) -> bytes:
        shown: bytes = self._db.execute("SELECT shown FROM schedule WHERE name = ?", (name,)).get
        return shown

    @guarded
    def count(self) -> int:
        count: int = self._db.execute("SELECT count(*) FROM schedule").get
        return count

    @guarded
    def put(self, schedule: Schedule, shown: bytes, task: bytes) -> None:
        it = schedule
        self._db.execute(
            f"INSERT OR REPLACE INTO schedule ({COLUMNS}, shown, task) VALUES ({', '.join('?' * 16)})",
            (it.name, it.cron, it.zone, it.misfire, it.misfire_limit, it.overlap, it.paused, it.next_run, it.last_run,
             it.last_flow, it.waiting, it.fired, it.skipped, it.created, shown, task),
        )  # fmt: skip

    @guarded
    def update(self, schedule: Schedule) -> None:
        it = schedule
        self._db.execute(
            "UPDATE schedule SET (paused, next_run, last_run, last_flow, waiting, fired, skipped) = (?, ?, ?, ?, ?, ?, ?)"
            " WHERE name = ?",
            (it.paused, it.next_run, it.last_run, it.last_flow, it.waiting, it.fired, it.skipped, it.name),
        )

    @guarded
    def remove(self, name: str) -> None:
        self._db.execute("DELETE FROM schedule WHERE name = ?", (name,))

    @guarded
    def due(self, now: float, limit: int) -> list[Schedule]:
        sql = f"SELECT {COLUMNS} FROM schedule WHERE next_run <= ? ORDER BY next_run, name LIMIT ?"
        return [schedule_from(row) for row in self._db.execute(sql, (now, limit))]

    @guarded
    def next_run(self) -> float | None:
        run: float | None = self._db.execute("SELECT min(next_run) FROM schedule WHERE next_run IS NOT NULL").get
        return run
