"""The embedded store: SQLite through apsw, one writing connection, used by the engine's thread alone.

Never opens the database file by other means: closing any other descriptor of it would drop SQLite's locks.
Does not cover: what people ask (`store.reader`), who may open it (`app` holds a lock beside it).
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import apsw
import msgpack

from gemflowd.core.turn import Chunk, Cursor, CursorKind, Turn
from gemflowd.model.attempt import AttemptRecord, HandlerInfo, Kind
from gemflowd.model.errors import StoreError, StoreFull
from gemflowd.model.event import EventBatch
from gemflowd.model.lane import Bucket, Lane, LaneKey
from gemflowd.model.states import On, State
from gemflowd.model.task import Flow, Task
from gemflowd.store import migrations
from gemflowd.store.base import Edge, Key, ParentEdge, Snapshot
from gemflowd.store.sql import queries, rows_of_values, steps

#: The WAL-reset bug could corrupt a database under these versions of SQLite.
_OLDEST: Final = (3, 51, 3)
_STATES: Final = {int(state): state for state in State}
_ONS: Final = {int(on): on for on in On}
_FLOW_STATES: Final = tuple(State)  # in the order of the flow table's last ten columns

_TASK_CHANGES: Final = (
    "state, lane, tag, due, waiting, dependents, token, attempts, tries, losses, crashes, cancelled,"
    " started, finished, slot, reason, priority"
)
_TASK_UPDATE: Final = (
    "WITH v(n, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r) AS (VALUES {values}) UPDATE task SET"
    f" ({_TASK_CHANGES}) = (v.a, v.b, v.c, v.d, v.e, v.f, v.g, v.h, v.i, v.j, v.k, v.l, v.m, v.o, v.p, v.q, v.r)"
    " FROM v WHERE task.number = v.n"
)
_FLOW_CHANGES: Final = (
    "state, finished, first, received, last_tag, cancelled,"
    " scheduled, blocked, ready, held, running, succeeded, failed, cancelled_n, skipped, quarantined"
)
_FLOW_UPDATE: Final = (
    "WITH v(n, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q) AS (VALUES {values}) UPDATE flow SET"
    f" ({_FLOW_CHANGES}) = (v.a, v.b, v.c, v.d, v.e, v.f, v.g, v.h, v.i, v.j, v.k, v.l, v.m, v.o, v.p, v.q)"
    " FROM v WHERE flow.number = v.n"
)


P = ParamSpec("P")
R = TypeVar("R")


def guarded(method: Callable[P, R]) -> Callable[P, R]:
    """Turn what SQLite says of the disk and the file into our own errors. Other errors are defects and go through."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except apsw.FullError as error:
            raise StoreFull(f"the disk is full: {error}") from error
        except (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError, apsw.ReadOnlyError) as error:
            raise StoreError(f"the database can't be trusted or used any more: {error}") from error

    return call


def task_from(row: Sequence[Any]) -> Task:
    task = Task(*row)
    task.state = _STATES[row[4]]
    task.cancelled = bool(row[21])
    return task


def flow_from(row: Sequence[Any]) -> Flow:
    counts = {state: count for state, count in zip(_FLOW_STATES, row[11:21], strict=True) if count}
    return Flow(*row[:10], counts=counts, cancelled=bool(row[10]))  # type: ignore[misc]


def _flow_counts(flow: Flow) -> tuple[int, ...]:
    return tuple(flow.counts.get(state, 0) for state in _FLOW_STATES)


def _task_row(task: Task) -> tuple[Any, ...]:
    return (
        task.number, task.flow, task.id, task.type, task.state, task.priority, task.lane, task.created, task.timeout,
        task.retries, task.backoff, task.tag, task.due, task.waiting, task.dependents, task.inputs, task.token, task.attempts, task.tries,
        task.losses, task.crashes, task.cancelled, task.started, task.finished, task.slot, task.reason,
    )  # fmt: skip


def _task_changes(task: Task) -> tuple[Any, ...]:
    return (
        task.number, task.state, task.lane, task.tag, task.due, task.waiting, task.dependents, task.token, task.attempts, task.tries,
        task.losses, task.crashes, task.cancelled, task.started, task.finished, task.slot, task.reason, task.priority,
    )  # fmt: skip


def open_connection(path: Path, *, read_only: bool = False) -> apsw.Connection:
    """Open the database as this program needs it.

    Raises:
        StoreError: it can't be opened.
    """
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    try:
        connection = apsw.Connection(str(path), flags=flags)
        connection.set_busy_timeout(5000)
    except apsw.Error as error:
        raise StoreError(f"the database {path} can't be opened: {error}") from error
    return connection


class SqliteStore:
    """See `store.base.Store`. Use it on the thread that opens it.

    Raises:
        StoreError: the file is no database of ours, is damaged, or was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
        if version < _OLDEST:
            raise StoreError(
                f"apsw brings SQLite {apsw.sqlite_lib_version()}, which can corrupt a database; update apsw"
            )
        self._queries = queries()
        self._db = open_connection(path)
        try:
            migrations.check(self._db)
            # Before anything else: set later it silently stays off.
            self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA wal_autocheckpoint = 4000")
            self._db.execute("PRAGMA cache_size = -32768")
            self._db.execute("PRAGMA temp_store = MEMORY")
            migrations.migrate(self._db)
        except apsw.Error as error:
            self._db.close()
            raise StoreError(f"the database {path} can't be used: {error}") from error

    # Reading

    @guarded
    def load(self) -> Snapshot:
        db = self._db
        lanes = {
            number: Lane(number, LaneKey(queue, bucket, Kind(kind), gate), bool(opened))
            for number, queue, bucket, kind, gate, opened in db.execute(
                "SELECT number, queue, bucket, kind, gate, open FROM lane"
            )
        }
        buckets = {name: Bucket(name, until) for name, until in db.execute("SELECT name, asleep_until FROM bucket")}
        cursors = [
            Cursor(CursorKind(kind), target, at)
            for kind, target, at in db.execute("SELECT kind, target, position FROM cursor")
        ]
        meta = dict(db.execute("SELECT key, value FROM meta"))
        last = db.execute(self._queries["last_event"]).fetchone()
        return Snapshot(
            lanes=lanes,
            buckets=buckets,
            cursors=cursors,
            running=[task_from(row) for row in db.execute(self._queries["running"])],
            next_task=max(meta.get("next_task", 1), (db.execute("SELECT max(number) FROM task").get or 0) + 1),
            next_flow=max(meta.get("next_flow", 1), (db.execute("SELECT max(number) FROM flow").get or 0) + 1),
            next_event=(last[0] if last else 0) + 1,
            ordinals=msgpack.unpackb(last[1]) if last else {},
            virtual_time=float(meta.get("virtual_time", 0.0)),
            settings={key: msgpack.unpackb(value) for key, value in db.execute("SELECT key, value FROM setting")},
            catalogue=[_handler_from(value) for (value,) in db.execute("SELECT value FROM catalogue")],
        )

    @guarded
    def tasks(self, numbers: Sequence[int]) -> list[Task]:
        return (
            [task_from(row) for row in self._db.execute(self._queries["tasks"], (json.dumps(numbers),))]
            if numbers
            else []
        )

    @guarded
    def tasks_by_id(self, flow: int, ids: Sequence[str]) -> dict[str, Task]:
        rows = self._db.execute(self._queries["tasks_by_id"], (flow, json.dumps(ids)))
        return {task.id: task for task in map(task_from, rows) if task.id is not None}

    @guarded
    def bodies(self, numbers: Sequence[int]) -> dict[int, bytes]:
        return dict(self._db.execute(self._queries["bodies"], (json.dumps(numbers),)))

    @guarded
    def inputs(self, numbers: Sequence[int]) -> dict[int, list[tuple[int, str | None, bytes]]]:
        found: dict[int, list[tuple[int, str | None, bytes]]] = {number: [] for number in numbers}
        for child, parent, name, value in self._db.execute(self._queries["inputs"], (json.dumps(numbers),)):
            found[child].append((parent, name, value))
        return found

    @guarded
    def flows(self, numbers: Sequence[int]) -> list[Flow]:
        return (
            [flow_from(row) for row in self._db.execute(self._queries["flows"], (json.dumps(numbers),))]
            if numbers
            else []
        )

    @guarded
    def flow_of(self, submission: str) -> Flow | None:
        row = self._db.execute(self._queries["flow_of"], (submission,)).fetchone()
        return flow_from(row) if row else None

    @guarded
    def chunk(self, flow: int, offset: int, count: int, complete: bool) -> Chunk | None:
        row = self._db.execute(self._queries["chunk"], (flow, offset, count, complete)).fetchone()
        return Chunk(row[0], row[1], row[2], row[3], bool(row[4]), row[5]) if row else None

    @guarded
    def ready(self, lane: int, limit: int) -> list[Key]:
        return list(self._db.execute(self._queries["ready"], (lane, limit)))

    @guarded
    def due(self, now: float, limit: int) -> list[Task]:
        return [task_from(row) for row in self._db.execute(self._queries["due"], (now, limit))]

    @guarded
    def next_due(self) -> float | None:
        row = self._db.execute(self._queries["next_due"]).fetchone()
        return row[0] if row else None

    @guarded
    def open_edges(self, parent: int, after: int, limit: int) -> list[Edge]:
        return [
            Edge(p, child, _ONS[on])
            for p, child, on in self._db.execute(self._queries["open_edges"], (parent, after, limit))
        ]

    @guarded
    def parents(self, children: Sequence[int]) -> list[ParentEdge]:
        rows = self._db.execute(self._queries["parents"], (json.dumps(children),))
        return [ParentEdge(child, parent, flow, _STATES[state], _ONS[on]) for child, parent, flow, state, on in rows]

    @guarded
    def children(self, parents: Sequence[int]) -> list[int]:
        return [child for (child,) in self._db.execute(self._queries["children"], (json.dumps(parents),))]

    @guarded
    def flow_tasks(self, flow: int, after: int, limit: int) -> list[Task]:
        return [task_from(row) for row in self._db.execute(self._queries["flow_tasks"], (flow, after, limit))]

    # Writing

    @guarded
    def begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    @guarded
    def commit(self) -> None:
        self._db.execute("COMMIT")

    @guarded
    def rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _insert(self, into: str, columns: int, rows: Sequence[Sequence[Any]]) -> None:
        self._many(f"INSERT INTO {into} VALUES {{values}}", columns, rows)

    def _many(self, statement: str, columns: int, rows: Sequence[Sequence[Any]]) -> None:
        """One statement for many rows: each step of a statement hands the interpreter's lock over."""
        at = 0
        for size in steps(len(rows)):
            values = [value for row in rows[at : at + size] for value in row]
            self._db.execute(statement.replace("{values}", rows_of_values(columns, size)), values)
            at += size

    @guarded
    def write(self, turn: Turn) -> None:
        run, named = self._db.execute, self._queries
        if turn.new_lanes:
            self._insert("lane", 6, [(lane.number, *_lane_row(lane)) for lane in turn.new_lanes])
        for lane in turn.changed_lanes.values():
            run("UPDATE lane SET open = ? WHERE number = ?", (lane.open, lane.number))
        self._write_flows(turn)
        self._write_tasks(turn)
        if turn.dependencies:
            self._insert(
                "dependency", 4, [(edge.parent, edge.child, edge.on, edge.settled) for edge in turn.dependencies]
            )
        for settled in turn.settled_edges:
            run(named["settle_edges"], settled)
        for reopened in turn.reopened_edges:
            run(named["reopen_edge"], reopened)
        if turn.attempts:
            self._insert("attempt", 10, [_attempt_row(record) for record in turn.attempts])
        if turn.dropped_results:
            run(
                "DELETE FROM result WHERE task IN (SELECT value FROM json_each(?))", (json.dumps(turn.dropped_results),)
            )
        if turn.results:
            self._insert("result", 2, turn.results)
        if turn.logs:
            self._insert("log (task, attempt, at, stream, text)", 5, turn.logs)
        for bucket in turn.changed_buckets.values():
            run(named["bucket_put"], (bucket.name, bucket.asleep_until))
        for (queue, state), change in turn.counts.items():
            if change:
                run(named["count"], (queue, state, change))
        for key, value in turn.settings.items():
            if value is None:
                run("DELETE FROM setting WHERE key = ?", (key,))
            else:
                run(named["setting_put"], (key, msgpack.packb(value)))
        if turn.catalogue is not None:
            run("DELETE FROM catalogue")
            self._insert(
                "catalogue", 2, [(info.type, msgpack.packb(dataclasses.asdict(info))) for info in turn.catalogue]
            )
        self._delete(turn)

    @guarded
    def conclude(self, turn: Turn, events: EventBatch | None, virtual_time: float) -> None:
        run, named = self._db.execute, self._queries
        for cursor in turn.done_cursors:  # first: it may have begun again since
            run(named["cursor_done"], (cursor.kind, cursor.target))
        for cursor in turn.moved_cursors.values():
            run(named["cursor_put"], (cursor.kind, cursor.target, cursor.position))
            cursor.stored = True
        if turn.started:
            run(named["meta_put"], ("virtual_time", virtual_time))
        if events is not None:
            last = events.first + len(events.events) - 1
            run(
                named["event_put"],
                (events.first, last, events.at, msgpack.packb(events.events), msgpack.packb(events.ordinals_after())),
            )

    def _write_flows(self, turn: Turn) -> None:
        new = {flow.number for flow in turn.new_flows}
        if new:
            self._insert(
                "flow (number, submission, name, metadata, state, created, finished, first, received, last_tag, weight, cancelled,"
                " scheduled, blocked, ready, held, running, succeeded, failed, cancelled_n, skipped, quarantined)",
                22,
                [
                    (flow.number, flow.submission, flow.name, flow.metadata, flow.state, flow.created, flow.finished, flow.first,
                     flow.received, flow.last_tag, flow.weight, flow.cancelled, *_flow_counts(flow))
                    for flow in turn.new_flows
                ],
            )  # fmt: skip
        rows = [
            (
                flow.number,
                flow.state,
                flow.finished,
                flow.first,
                flow.received,
                flow.last_tag,
                flow.cancelled,
                *_flow_counts(flow),
            )
            for number, flow in turn.changed_flows.items()
            if number not in new
        ]
        self._many(_FLOW_UPDATE, 17, rows)
        if turn.chunks:
            self._insert("chunk", 6, [(c.flow, c.offset, c.count, c.first, c.complete, c.digest) for c in turn.chunks])

    def _write_tasks(self, turn: Turn) -> None:
        if turn.new_tasks:
            self._insert("task", 26, [_task_row(task) for task, _ in turn.new_tasks])
            self._insert("body", 2, [(task.number, body) for task, body in turn.new_tasks])
            new = {task.number for task, _ in turn.new_tasks}
            changed = [task for number, task in turn.changed.items() if number not in new]
        else:
            changed = list(turn.changed.values())
        self._many(_TASK_UPDATE, 18, [_task_changes(task) for task in changed])

    def _delete(self, turn: Turn) -> None:
        if turn.deleted_tasks:
            numbers = json.dumps(turn.deleted_tasks)
            self._db.execute(self._queries["delete_dependencies"], (numbers,))
            for table, column in (
                ("attempt", "task"),
                ("result", "task"),
                ("log", "task"),
                ("body", "task"),
                ("task", "number"),
            ):
                self._db.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", (numbers,))
        for flow in turn.deleted_flows:
            for table, column in (("chunk", "flow"), ("lane", "gate"), ("flow", "number")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (flow,))
        # Numbers are never given twice, also when the newest were removed.
        self._raise_number("next_task", max(turn.deleted_tasks, default=0) + 1)
        self._raise_number("next_flow", max(turn.deleted_flows, default=0) + 1)

    def _raise_number(self, key: str, value: int) -> None:
        if value > 1:
            self._db.execute(
                "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
                (key, value),
            )

    @guarded
    def note_start(self) -> bool:
        unclean = self._db.execute("SELECT value FROM meta WHERE key = 'running'").fetchone()
        self._db.execute(self._queries["meta_put"], ("running", 1))
        return bool(unclean and unclean[0])

    @guarded
    def note_end(self) -> None:
        self._db.execute(self._queries["meta_put"], ("running", 0))

    @guarded
    def close(self) -> None:
        self._db.close()


def _handler_from(value: bytes) -> HandlerInfo:
    fields = msgpack.unpackb(value)
    return HandlerInfo(**{**fields, "kind": Kind(fields["kind"])})


def _lane_row(lane: Lane) -> tuple[Any, ...]:
    return (lane.key.queue, lane.key.bucket, lane.key.kind, lane.key.gate, lane.open)


def _attempt_row(record: AttemptRecord) -> tuple[Any, ...]:
    return (
        record.task, record.number, record.slot, record.started, record.finished, record.outcome, record.seconds,
        record.error, record.usage, record.peak_kb,
    )  # fmt: skip
