"""What people and tasks read of the shared memory. Who writes it is `store.parts.values`.

What has expired is not shown, whether its row is still there or not: who asks says what time it is.
"""

from __future__ import annotations

import sys
from typing import Any, Final, NamedTuple

import apsw
import msgpack

from gemflowd.model.errors import Refused, echo

Body = dict[str, Any]
#: Bytes of values in one page, about.
PAGE_BYTES: Final = 8 * 1024 * 1024
_HEAD: Final = "namespace, key, version, updated, until, task, attempt, client, length(value)"
_ALIVE: Final = "(until IS NULL OR until > :steady)"


class Moment(NamedTuple):
    """Now, by the engine's two clocks: lives are measured by the one and shown by the other."""

    steady: float
    wall: float

    def date(self, steady: float | None) -> float | None:
        return None if steady is None else self.wall + steady - self.steady


class Page(NamedTuple):
    """What part of a namespace is asked for."""

    namespace: str
    prefix: str
    after: str
    limit: int
    values: bool


def get(db: apsw.Connection, namespace: str, key: str, moment: Moment) -> Body:
    """The body of `memory_get`.

    Raises:
        Refused: `not_found`.
    """
    names = {"namespace": namespace, "key": key, "steady": moment.steady}
    sql = f"SELECT {_HEAD}, value FROM value WHERE namespace = :namespace AND key = :key AND {_ALIVE}"
    row = db.execute(sql, names).fetchone()
    if row is None:
        raise Refused("not_found", f"there is no key {echo(key)} in {echo(namespace)}", "key")
    body = _head(row, moment)
    del body["bytes"]
    return {**body, "value": _unpacked(row[-1])}


def listed(db: apsw.Connection, page: Page, moment: Moment) -> Body:
    """The body of `memory_list` of one namespace. With values it ends where the page is full."""
    # One lower bound: SQLite begins its search at the first that it finds.
    begin = "key > :after" if page.after >= page.prefix else "key >= :prefix"
    conditions = ["namespace = :namespace", begin, _ALIVE]
    end = _after_all_with(page.prefix)
    if end is not None:
        conditions.append("key < :end")
    sql = f"""SELECT {_HEAD}{", value" if page.values else ""} FROM value
        WHERE {" AND ".join(conditions)} ORDER BY key LIMIT :limit"""
    names = {**page._asdict(), "end": end, "steady": moment.steady}
    items: list[Body] = []
    size = 0
    for row in db.execute(sql, names):
        item = _head(row, moment)
        if page.values:
            size += item["bytes"]
            if items and size > PAGE_BYTES:
                return {"items": items, "next": items[-1]["key"]}
            item["value"] = _unpacked(row[-1])
        items.append(item)
    return {"items": items, "next": items[-1]["key"] if len(items) == page.limit else None}


def namespaces(db: apsw.Connection, moment: Moment) -> Body:
    """The body of `memory_list` with `namespaces`."""
    sql = f"SELECT namespace, count(*), sum(length(value)) FROM value WHERE {_ALIVE} GROUP BY namespace ORDER BY namespace"
    return {
        "namespaces": [
            {"namespace": namespace, "keys": keys, "bytes": size}
            for namespace, keys, size in db.execute(sql, {"steady": moment.steady})
        ]
    }


def _head(row: tuple[Any, ...], moment: Moment) -> Body:
    namespace, key, version, updated, until, task, attempt, client, size = row[:9]
    return {
        "namespace": namespace,
        "key": key,
        "version": version,
        "updated": updated,
        "expires": moment.date(until),
        "bytes": size,
        "writer": {"client": client} if task is None else {"task": task, "attempt": attempt},
    }


def _unpacked(value: bytes) -> Any:
    return msgpack.unpackb(value, strict_map_key=False)


def _after_all_with(prefix: str) -> str | None:
    """The first text after all that begin with `prefix`, in the order of their UTF-8; None where there is no such text."""
    head = prefix.rstrip(chr(sys.maxunicode))
    if not head:
        return None
    following = ord(head[-1]) + 1
    return head[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are no characters
