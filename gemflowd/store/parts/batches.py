"""Batches of model calls, with their questions and answers. See `store.base.BatchTable`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import apsw

from gemflowd.model.batch import Batch, BatchState
from gemflowd.model.budget import Amount, Reservation
from gemflowd.store.guard import guarded
from gemflowd.store.tables import BatchItem

_COLUMNS: Final = "number, uuid, model, until, state, name, items, bytes, reason"
#: Bytes of questions that are handed over at a time, about.
PAGE_BYTES: Final = 2 * 1024 * 1024
_PAGE: Final = 500


def _batch(row: Sequence[Any] | None) -> Batch | None:
    if row is None:
        return None
    number, name, model, until, state, *rest = row
    return Batch(number, name, model, until, BatchState(state), *rest)


def _reservation(packed: str | None) -> Reservation | None:
    if packed is None:
        return None
    money, tokens, *numbers = json.loads(packed)
    return Reservation(Amount(money, tokens), tuple(numbers))


class Batches:
    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    @guarded
    def carriers(self) -> set[int]:
        return {number for (number,) in self._db.execute("SELECT number FROM batch WHERE state < 5")}

    @guarded
    def get(self, number: int) -> Batch | None:
        return _batch(self._db.execute(f"SELECT {_COLUMNS} FROM batch WHERE number = ?", (number,)).fetchone())

    @guarded
    def open_for(self, model: str, until: int) -> Batch | None:
        sql = f"SELECT {_COLUMNS} FROM batch WHERE state = 1 AND model = ? AND until = ?"
        return _batch(self._db.execute(sql, (model, until)).fetchone())

    @guarded
    def put(self, batch: Batch) -> None:
        it = batch
        row = (it.number, it.uuid, it.model, it.until, it.state, it.name, it.items, it.bytes, it.reason)
        self._db.execute(f"INSERT OR REPLACE INTO batch ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    @guarded
    def item(self, task: int) -> BatchItem | None:
        sql = "SELECT batch, answer IS NOT NULL, assumed FROM batch_item WHERE task = ?"
        row = self._db.execute(sql, (task,)).fetchone()
        return None if row is None else BatchItem(row[0], bool(row[1]), _reservation(row[2]))

    @guarded
    def those_in(self, tasks: Sequence[int]) -> list[int]:
        sql = "SELECT task FROM batch_item WHERE task IN (SELECT value FROM json_each(?))"
        return [task for (task,) in self._db.execute(sql, (json.dumps(tasks),))]

    @guarded
    def waiting(self) -> list[int]:
        return [task for (task,) in self._db.execute("SELECT task FROM batch_item WHERE assumed IS NULL")]

    @guarded
    def assume(self, task: int, reservation: Reservation | None) -> None:
        packed = None if reservation is None else json.dumps([*reservation.amount, *reservation.budgets])
        self._db.execute("UPDATE batch_item SET assumed = ? WHERE task = ?", (packed, task))

    @guarded
    def add(self, task: int, batch: int, request: bytes) -> None:
        self._db.execute("INSERT INTO batch_item (task, batch, request) VALUES (?, ?, ?)", (task, batch, request))

    @guarded
    def answer(self, batch: int, answers: Sequence[tuple[int, bytes]]) -> None:
        sql = "UPDATE batch_item SET answer = ?, request = x'' WHERE task = ? AND batch = ? AND answer IS NULL"
        self._db.executemany(sql, [(answer, task, batch) for task, answer in answers])

    @guarded
    def unanswered(self, batch: int, after: int, limit: int) -> list[int]:
        sql = "SELECT task FROM batch_item WHERE batch = ? AND task > ? AND answer IS NULL ORDER BY task LIMIT ?"
        return [task for (task,) in self._db.execute(sql, (batch, after, limit))]

    @guarded
    def waited_for(self, batch: int) -> bool:
        sql = """SELECT EXISTS (SELECT 1 FROM batch_item i JOIN task t ON t.number = i.task
            WHERE i.batch = ? AND i.answer IS NULL AND t.state < 6)"""
        return bool(self._db.execute(sql, (batch,)).get)

    @guarded
    def remove(self, tasks: Sequence[int]) -> None:
        if tasks:
            self._db.execute(
                "DELETE FROM batch_item WHERE task IN (SELECT value FROM json_each(?))", (json.dumps(tasks),)
            )

    @guarded
    def forget(self, tasks: Sequence[int]) -> None:
        for table, column in (("batch_item", "task"), ("batch", "number")):
            self._db.execute(
                f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", (json.dumps(tasks),)
            )


def questions(db: apsw.Connection, batch: int, after: int) -> dict[str, Any]:
    """A page of the questions whose tasks have not ended: `{items: [[task, request], …], next}`."""
    sql = """SELECT i.task, i.request FROM batch_item i JOIN task t ON t.number = i.task
        WHERE i.batch = ? AND i.task > ? AND i.answer IS NULL AND t.state < 6 ORDER BY i.task"""
    found: list[tuple[int, bytes]] = []
    size = 0
    for task, request in db.execute(sql, (batch, after)):
        found.append((task, request))
        size += len(request)
        if size >= PAGE_BYTES or len(found) >= _PAGE:
            return {"items": found, "next": task}
    return {"items": found, "next": None}


def answer(db: apsw.Connection, task: int) -> bytes | None:
    """The answer to a task's question, JSON."""
    found: bytes | None = db.execute("SELECT answer FROM batch_item WHERE task = ?", (task,)).get
    return found
