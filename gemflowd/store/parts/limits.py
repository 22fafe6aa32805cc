"""What is remembered of limits: their ledgers, and the figures that were set at run time. See `store.base.LimitTable`."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

import apsw
import msgpack

from gemflowd.model.lane import Bucket
from gemflowd.model.limit import Breaker, Learned, Ledger, Log
from gemflowd.store.guard import guarded

#: Of a ledger as it is stored. One of another version is dropped: a minute later nobody would miss it.
_VERSION: Final = 1


class Limits:
    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    @guarded
    def load(self, buckets: dict[str, Bucket]) -> None:
        for name, packed in self._db.execute("SELECT bucket, ledger FROM quota"):
            ledger = unpack(packed)
            if ledger is not None:
                buckets.setdefault(name, Bucket(name)).ledger = ledger
        for name, packed in self._db.execute("SELECT bucket, figures FROM quota_figure"):
            buckets.setdefault(name, Bucket(name)).given = msgpack.unpackb(packed)

    @guarded
    def put(self, buckets: Iterable[Bucket]) -> None:
        for bucket in buckets:
            self._db.execute(
                "INSERT INTO quota (bucket, ledger) VALUES (?, ?) ON CONFLICT (bucket) DO UPDATE SET ledger = excluded.ledger",
                (bucket.name, pack(bucket.ledger)),
            )

    @guarded
    def give(self, bucket: Bucket) -> None:
        if bucket.given:
            self._db.execute(
                "INSERT OR REPLACE INTO quota_figure (bucket, figures) VALUES (?, ?)",
                (bucket.name, msgpack.packb(bucket.given)),
            )
        else:
            self._db.execute("DELETE FROM quota_figure WHERE bucket = ?", (bucket.name,))

    @guarded
    def stops(self) -> dict[int, tuple[int, int]]:
        return {flow: (most, at) for flow, most, at in self._db.execute("SELECT flow, most, stop_at FROM max_errors")}

    @guarded
    def stop_at(self, flow: int, most: int, at: int, *, stopped: bool) -> None:
        sql = "INSERT OR REPLACE INTO max_errors (flow, most, stop_at, stopped) VALUES (?, ?, ?, ?)"
        self._db.execute(sql, (flow, most, at, stopped))

    @guarded
    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._db.execute("DELETE FROM quota WHERE bucket = ?", (name,))
            self._db.execute("DELETE FROM bucket WHERE name = ?", (name,))


def pack(ledger: Ledger) -> bytes:
    """A ledger as it is stored: some kilobytes at most."""
    breaker = ledger.breaker
    packed: bytes = msgpack.packb(
        {
            "v": _VERSION,
            "logs": {figure: _pack_log(log) for figure, log in ledger.logs.items() if log.cells},
            "learned": ledger.learned,
            "day": [*ledger.day, ledger.day_count, ledger.parked, ledger.day_waited],
            "cap": [ledger.cap, ledger.cut, ledger.unsaid],
            "means": [ledger.ratio, ledger.mean_tokens, ledger.mean_cost, ledger.fastest, ledger.first_done],
            "breaker": [breaker.failures, breaker.last, breaker.opened, breaker.until, breaker.pause],
        }
    )
    return packed


def unpack(packed: bytes) -> Ledger | None:
    """None: another version has written it."""
    told: dict[str, Any] = msgpack.unpackb(packed)
    if told.get("v") != _VERSION:
        return None
    begin, end, count, parked, waited = told["day"]
    cap, cut, unsaid = told["cap"]
    ratio, mean_tokens, mean_cost, fastest, first_done = told["means"]
    return Ledger(
        logs={figure: _unpack_log(log) for figure, log in told["logs"].items()},
        learned={figure: Learned(*learned) for figure, learned in told["learned"].items()},
        day=(begin, end),
        day_count=count,
        parked=parked,
        day_waited=waited,
        cap=cap,
        cut=cut,
        unsaid=unsaid,
        ratio=ratio,
        mean_tokens=mean_tokens,
        mean_cost=mean_cost,
        fastest=fastest,
        first_done=first_done,
        breaker=Breaker(*told["breaker"]),
    )


def _pack_log(log: Log) -> list[Any]:
    """Times as floats of 32 bits since the first: microseconds of a minute."""
    begin = log.cells[0][0]
    flat = [value for first, last, amount in log.cells for value in (first - begin, last - begin, amount)]
    return [begin, struct.pack(f"<{len(flat)}f", *flat)]


def _unpack_log(packed: list[Any]) -> Log:
    begin, cells = packed
    found = deque([begin + first, begin + last, amount] for first, last, amount in struct.iter_unpack("<3f", cells))
    return Log(found, sum(cell[2] for cell in found))
