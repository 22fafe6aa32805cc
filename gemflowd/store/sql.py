"""Reads the named queries of `queries.sql` and builds statements over many rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import chain
from typing import Any, Final

import apsw

#: Columns in the order of the fields of `model.task.Task` and `model.task.Flow`.
TASK_COLUMNS: Final = (
    "number, flow, id, type, state, priority, lane, created, timeout, retries, backoff, tag, due, waiting, dependents,"
    " inputs, token, attempts, tries, losses, crashes, cancelled, started, finished, slot, reason,"
    " urgency, expires, hold, flags, depth, size, ooms, rules, memory_mb, estimate"
)
FLOW_COLUMNS: Final = (
    "number, submission, name, state, created, finished, first, received, last_tag, weight, cancelled,"
    " touched, streaming, on_hold, deleted, ordering,"
    " scheduled, blocked, ready, held, running, succeeded, failed, cancelled_n, skipped, quarantined"
)
#: Rows in one statement of many, the most first; few different numbers, so that few statements are ever prepared.
_SIZES: Final = (256, 128, 64, 16, 4, 2, 1)
#: Characters of a statement. apsw prepares a longer one (16 KiB) anew each time, which doubles what its rows cost.
_MOST_TEXT: Final = 14_000


@lru_cache(maxsize=1)
def queries() -> dict[str, str]:
    """The statements of `queries.sql` by name."""
    found: dict[str, str] = {}
    for part in files("gemflowd.store").joinpath("queries.sql").read_text("utf-8").split("-- name: ")[1:]:
        name, _, text = part.partition("\n")
        found[name.strip()] = text.replace("{task}", TASK_COLUMNS).replace("{flow}", FLOW_COLUMNS).strip()
    return found


def schema() -> str:
    return files("gemflowd.store").joinpath("schema.sql").read_text("utf-8")


@lru_cache(maxsize=512)
def _of_many(statement: str, columns: int, rows: int) -> str:
    """The statement with `{values}` as `(?,?),(?,?)` for that many rows."""
    return statement.replace("{values}", ",".join(["(" + ",".join("?" * columns) + ")"] * rows))


def _steps(columns: int, total: int) -> list[int]:
    """Cut `total` rows of so many columns into statements of many."""
    sizes: list[int] = []
    for size in _SIZES:
        if size * 2 * (columns + 1) <= _MOST_TEXT or size == 1:
            sizes += [size] * (total // size)
            total %= size
    return sizes


def write_many(db: apsw.Connection, statement: str, columns: int, rows: Sequence[Sequence[Any]]) -> None:
    """Few statements for many rows: each step of a statement hands the interpreter's lock over. `{values}` is where they go."""
    at = 0
    for size in _steps(columns, len(rows)):
        db.execute(_of_many(statement, columns, size), tuple(chain.from_iterable(rows[at : at + size])))
        at += size
