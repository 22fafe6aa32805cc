"""Whether a database is sound: SQLite's own look at its pages, and ours at what must agree (docs/architecture.md, "Invariants").

Only sums are looked at, so that it takes one pass over each table. `core.invariants` looks at single tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import apsw

from gemflowd.model.states import State

#: Problems that are told of each kind.
_MOST: Final = 20

_COUNTERS: Final = """SELECT queue, state, sum(stored), sum(counted) FROM (
    SELECT queue, state, count AS stored, 0 AS counted FROM counter
    UNION ALL SELECT l.queue, t.state, 0, count(*) FROM task t LEFT JOIN lane l ON l.number = t.lane GROUP BY 1, 2
) GROUP BY 1, 2 HAVING sum(stored) <> sum(counted) LIMIT ?1"""

_COLUMNS: Final = (
    "scheduled",
    "blocked",
    "ready",
    "held",
    "running",
    "succeeded",
    "failed",
    "cancelled_n",
    "skipped",
    "quarantined",
)
_FLOWS: Final = (
    "SELECT f.number, f.state, "
    + ", ".join(f"f.{name}, coalesce(c.n{state:d}, 0)" for name, state in zip(_COLUMNS, State, strict=True))
    + " FROM flow f LEFT JOIN (SELECT flow, "
    + ", ".join(f"sum(state = {state:d}) AS n{state:d}" for state in State)
    + " FROM task GROUP BY flow) c ON c.flow = f.number WHERE "
    + " OR ".join(f"f.{name} <> coalesce(c.n{state:d}, 0)" for name, state in zip(_COLUMNS, State, strict=True))
    + " LIMIT ?1"
)  # fmt: skip

#: What must not be there, and what to say of it.
_NEVER: Final = (
    ("SELECT number FROM task t WHERE NOT EXISTS (SELECT 1 FROM flow WHERE number = t.flow)", "task {} has no flow"),
    ("SELECT number FROM task t WHERE NOT EXISTS (SELECT 1 FROM body WHERE task = t.number)", "task {} has no body"),
    (
        "SELECT number FROM task t WHERE state = 6 AND NOT EXISTS (SELECT 1 FROM result WHERE task = t.number)",
        "task {} has succeeded and has no result",
    ),
    (
        "SELECT task FROM result r WHERE NOT EXISTS (SELECT 1 FROM task WHERE number = r.task AND state = 6)",
        "there is a result of task {}, which has not succeeded",
    ),
)


def problems(db: apsw.Connection) -> list[str]:
    """Every problem as a sentence, at most some of each kind."""
    try:
        return _problems(db)
    except (apsw.CorruptError, apsw.NotADBError, apsw.IOError) as error:
        return [f"it can't be read: {error}"]


def _problems(db: apsw.Connection) -> list[str]:
    pages = [str(row[0]) for row in db.execute(f"PRAGMA integrity_check({_MOST})")]
    if pages != ["ok"]:
        return pages  # what follows could say anything
    db.execute("BEGIN")
    try:
        return list(_disagreements(db))
    finally:
        db.execute("ROLLBACK")


def _disagreements(db: apsw.Connection) -> Iterator[str]:
    for queue, state, stored, counted in db.execute(_COUNTERS, (_MOST,)):
        yield f"queue {queue} counts {stored} tasks as {State(state).word}, has {counted}"
    for number, _, *counts in db.execute(_FLOWS, (_MOST,)):
        for index, state in enumerate(State):
            stored, counted = counts[2 * index : 2 * index + 2]
            if stored != counted:
                yield f"flow f{number} counts {stored} tasks as {state.word}, has {counted}"
    for sql, sentence in _NEVER:
        for (number,) in db.execute(f"{sql} LIMIT ?", (_MOST,)):
            yield sentence.format(number)
    yield from _gaps(db)


def _gaps(db: apsw.Connection) -> Iterator[str]:
    expected, found = None, 0
    for first, last in db.execute("SELECT first, last FROM event ORDER BY first"):
        if expected is not None and first != expected and found < _MOST:
            found += 1
            yield f"events {expected} to {first - 1} are missing"
        expected = last + 1
