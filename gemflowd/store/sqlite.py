"""The embedded store: SQLite through apsw, one writing connection, used by the engine's thread alone.

Never opens the database file by other means: closing any other descriptor of it would drop SQLite's locks.
Does not cover: what people ask (`store.reader`), who may open it (`app` holds a lock beside it).
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import msgpack

from gemflowd.core.turn import Chunk, Cursor, CursorKind, Turn
from gemflowd.model.attempt import HandlerInfo, Kind, Outcome
from gemflowd.model.errors import StoreError, StoreFull
from gemflowd.model.event import EventBatch
from gemflowd.model.lane import Bucket, Lane, LaneKey, Queue
from gemflowd.model.states import On, State
from gemflowd.model.task import DUE_WALL, EXPIRES_WALL, Flow, Task
from gemflowd.store import migrations
from gemflowd.store.base import Edge, Key, ParentEdge, ParentState, Snapshot
from gemflowd.store.guard import guarded
from gemflowd.store.parts.batches import Batches
from gemflowd.store.parts.budgets import Budgets
from gemflowd.store.parts.cache import Cache
from gemflowd.store.parts.keys import Keys
from gemflowd.store.parts.limits import Limits
from gemflowd.store.parts.links import Links
from gemflowd.store.parts.paths import Paths
from gemflowd.store.parts.schedules import Schedules
from gemflowd.store.parts.upkeep import Upkeep
from gemflowd.store.parts.values import Values
from gemflowd.store.sql import FLOW_COLUMNS, TASK_COLUMNS, queries, write_many

#: The WAL-reset bug could corrupt a database under these versions of SQLite.
_OLDEST: Final = (3, 51, 3)
#: Of the number that tells a database from all others: so many that no digit is lost in a float.
_DATABASE_BITS: Final = 53
#: Prepared statements that a connection keeps: all named queries, and those of many rows in their sizes.
_STATEMENTS: Final = 400
#: Rows up to which one after the other is quicker than all in one statement.
_FEW_ROWS: Final = 3
_STATES: Final = {int(state): state for state in State}
_ONS: Final = {int(on): on for on in On}
_FLOW_STATES: Final = tuple(State)  # in the order of the flow table's last ten columns


class _Update(NamedTuple):
    """Changes rows of a table by their number, which comes first among the values of each."""

    many: str
    one: str  # for a few rows: it has no table of values to build
    values: int


def _update(table: str, columns: str) -> _Update:
    names = columns.replace(" ", "").split(",")
    aliases = [f"c{index}" for index in range(len(names))]
    many = (
        f"WITH v(n, {', '.join(aliases)}) AS (VALUES {{values}}) UPDATE {table} SET ({columns})"
        f" = ({', '.join(f'v.{alias}' for alias in aliases)}) FROM v WHERE {table}.number = v.n"
    )
    places = ", ".join(f"?{index + 2}" for index in range(len(names)))
    return _Update(many, f"UPDATE {table} SET ({columns}) = ({places}) WHERE number = ?1", len(names) + 1)


_TASK_UPDATE: Final = _update(
    "task",
    "state, lane, tag, due, waiting, dependents, token, attempts, tries, losses, crashes, cancelled,"
    " started, finished, slot, reason, priority, inputs, urgency, expires, hold, flags, ooms",
)
_FLOW_UPDATE: Final = _update(
    "flow",
    "state, finished, first, received, last_tag, cancelled, touched, streaming, on_hold, deleted, ordering,"
    " scheduled, blocked, ready, held, running, succeeded, failed, cancelled_n, skipped, quarantined",
)


def task_from(row: Sequence[Any]) -> Task:
    task = Task(*row)
    task.state = _STATES[row[4]]
    task.cancelled = bool(row[21])
    return task


def flow_from(row: Sequence[Any]) -> Flow:
    counts = {state: count for state, count in zip(_FLOW_STATES, row[16:26], strict=True) if count}
    cancelled, touched, streaming, on_hold, deleted, ordering = row[10:16]
    return Flow(
        *row[:10],
        counts=counts,
        cancelled=bool(cancelled),
        touched=touched,
        streaming=bool(streaming),
        on_hold=bool(on_hold),
        deleted=bool(deleted),
        ordering=ordering,
    )  # type: ignore[misc]


def _flow_counts(flow: Flow) -> tuple[int, ...]:
    return tuple(flow.counts.get(state, 0) for state in _FLOW_STATES)


def _task_row(task: Task) -> tuple[Any, ...]:
    return (
        task.number, task.flow, task.id, task.type, task.state, task.priority, task.lane, task.created, task.timeout,
        task.retries, task.backoff, task.tag, task.due, task.waiting, task.dependents, task.inputs, task.token, task.attempts, task.tries,
        task.losses, task.crashes, task.cancelled, task.started, task.finished, task.slot, task.reason,
        task.urgency, task.expires, task.hold, task.flags, task.depth, task.size, task.ooms, task.rules,
        task.memory_mb, task.estimate,
    )  # fmt: skip


def _task_changes(task: Task) -> tuple[Any, ...]:
    return (
        task.number, task.state, task.lane, task.tag, task.due, task.waiting, task.dependents, task.token, task.attempts, task.tries,
        task.losses, task.crashes, task.cancelled, task.started, task.finished, task.slot, task.reason, task.priority,
        task.inputs, task.urgency, task.expires, task.hold, task.flags, task.ooms,
    )  # fmt: skip


def open_connection(path: Path, *, read_only: bool = False, vfs: str | None = None) -> apsw.Connection:
    """Open the database as this program needs it. `vfs` names another way to the disk, for tests.

    Raises:
        StoreError: it can't be opened.
    """
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    try:
        connection = apsw.Connection(str(path), flags=flags, vfs=vfs, statementcachesize=_STATEMENTS)
        connection.set_busy_timeout(5000)
    except apsw.Error as error:
        raise StoreError(f"the database {path} can't be opened: {error}") from error
    return connection


def memory_bytes() -> int:
    """What SQLite has of this process's memory, all connections together: page caches, which fill up to their limit, above all."""
    return apsw.memory_used()


class SqliteStore:
    """See `store.base.Store`. Use it on the thread that opens it. The path `:memory:` makes one that nobody else sees.

    Args:
        vfs: another way to the disk, for tests.
        ballast: bytes that are kept free beside the database for the day on which the disk is full; 0: none.

    Raises:
        StoreError: the file is no database of ours, is damaged, or was written by a newer version.
    """

    def __init__(self, path: Path, *, vfs: str | None = None, ballast: int = 0) -> None:
        version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
        if version < _OLDEST:
            raise StoreError(
                f"apsw brings SQLite {apsw.sqlite_lib_version()}, which can corrupt a database; update apsw"
            )
        self._queries = queries()
        self._db = open_connection(path, vfs=vfs)
        self.keys = Keys(self._db)
        self.links = Links(self._db)
        self.paths = Paths(self._db)
        self.values = Values(self._db)
        self.schedules = Schedules(self._db)
        self.batches = Batches(self._db)
        self.budgets = Budgets(self._db)
        self.cache = Cache(self._db)
        self.limits = Limits(self._db)
        try:
            # SQLite ignores it when that one fails; `upkeep` does it by hand. And one that is refused is left untouched.
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            migrations.check(self._db)
            migrations.keep_backup(self._db, path)
            # Before anything else: set later it silently stays off.
            self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            mode = self._db.execute("PRAGMA journal_mode = WAL").get
            if mode not in ("wal", "memory"):  # it raises nothing, whatever went wrong
                raise StoreError(f"the database {path} can't be put into WAL mode, it stays in mode {mode}")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA cache_size = -32768")
            self._db.execute("PRAGMA temp_store = MEMORY")
            migrations.migrate(self._db)
            self.upkeep = Upkeep(self._db, path, ballast)
        except StoreError:
            self._db.close()
            raise
        except apsw.FullError as error:
            self._db.close()
            raise StoreFull(f"the disk is full; the database {path} can't be opened: {error}") from error
        except apsw.Error as error:
            self._db.close()
            raise StoreError(f"the database {path} can't be used: {error}") from error

    # Reading

    @guarded
    def load(self) -> Snapshot:
        db = self._db
        lanes = {
            number: Lane(number, LaneKey(queue, bucket, Kind(kind), gate, resources, others), bool(opened), shift)
            for number, queue, bucket, kind, gate, opened, resources, shift, others in db.execute(
                "SELECT number, queue, bucket, kind, gate, open, resources, shift, others FROM lane"
            )
        }
        buckets = {name: Bucket(name, until) for name, until in db.execute("SELECT name, asleep_until FROM bucket")}
        self.limits.load(buckets)
        cursors = [
            Cursor(CursorKind(kind), target, at, value)
            for kind, target, at, value in db.execute("SELECT kind, target, position, value FROM cursor")
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
            meta={key: float(value) for key, value in meta.items()},
            queues={
                name: Queue(name, bool(paused), most)
                for name, paused, most in db.execute("SELECT name, paused, most FROM queue")
            },
            settings={key: msgpack.unpackb(value) for key, value in db.execute("SELECT key, value FROM setting")},
            catalogue=[_handler_from(value) for (value,) in db.execute("SELECT value FROM catalogue")],
            next_run=self.schedules.next_run(),
            stops=self.limits.stops(),
            awaited=dict(db.execute("SELECT last_flow, name FROM schedule WHERE waiting IS NOT NULL")),
            accounts=self.budgets.load(),
            carriers=self.batches.carriers(),
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
    def last_again(self, task: int) -> bytes | None:
        sql = "SELECT error FROM attempt WHERE task = ? AND outcome IN (?, ?) ORDER BY number DESC LIMIT 1"
        error: bytes | None = self._db.execute(sql, (task, Outcome.AGAIN, Outcome.PARKED)).get
        return error

    @guarded
    def inputs(self, numbers: Sequence[int]) -> dict[int, list[tuple[int, str | None, bytes]]]:
        found: dict[int, list[tuple[int, str | None, bytes]]] = {number: [] for number in numbers}
        for child, parent, name, value in self._db.execute(self._queries["inputs"], (json.dumps(numbers),)):
            found[child].append((parent, name, value))
        return found

    @guarded
    def inputs_page(self, task: int, after: int, limit: int) -> list[tuple[int, str | None, bytes | None]]:
        return list(self._db.execute(self._queries["inputs_page"], (task, after, limit)))

    @guarded
    def input_sizes(self, numbers: Sequence[int]) -> dict[int, int]:
        return dict(self._db.execute(self._queries["input_sizes"], (json.dumps(numbers),)))

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
    def due(self, now: float, limit: int, *, wall: bool) -> list[Task]:
        return [task_from(row) for row in self._db.execute(self._queries["due"], (DUE_WALL * wall, now, limit))]

    @guarded
    def expired(self, now: float, limit: int, *, wall: bool) -> list[Task]:
        return [task_from(row) for row in self._db.execute(self._queries["expired"], (EXPIRES_WALL * wall, now, limit))]

    @guarded
    def next_times(self, *, wall: bool) -> float | None:
        db, named = self._db, self._queries
        due: float | None = db.execute(named["next_due"], (DUE_WALL * wall,)).get
        expiry: float | None = db.execute(named["next_expiry"], (EXPIRES_WALL * wall,)).get
        return min((time for time in (due, expiry) if time is not None), default=None)

    @guarded
    def unhandled(self, types: Sequence[str], limit: int) -> list[Task]:
        return [task_from(row) for row in self._db.execute(self._queries["unhandled"], (json.dumps(types), limit))]

    @guarded
    def judging(self, limit: int) -> list[Task]:
        return [task_from(row) for row in self._db.execute(self._queries["judging"], (limit,))]

    @guarded
    def placed_in(self, after: int, last: int) -> list[Task]:
        return [task_from(row) for row in self._db.execute(self._queries["placed"], (after, last))]

    @guarded
    def oldest_open_flow(self) -> tuple[int, float] | None:
        return self._db.execute(self._queries["open_flow"]).fetchone()

    @guarded
    def edges_of(self, parents: Sequence[int]) -> list[Edge]:
        rows = self._db.execute(self._queries["edges_of"], (json.dumps(parents),))
        return [Edge(parent, child, _ONS[on]) for parent, child, on in rows]

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
    def count_parents(self, child: int) -> int:
        count: int = self._db.execute("SELECT count(*) FROM dependency WHERE child = ?", (child,)).get
        return count

    @guarded
    def parents_page(self, child: int, after: int, limit: int) -> list[ParentState]:
        return [
            ParentState(parent, _ONS[on], bool(settled), flow, None if state is None else _STATES[state])
            for parent, on, settled, flow, state in self._db.execute(
                self._queries["parents_page"], (child, after, limit)
            )
        ]

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
        write_many(self._db, statement, columns, rows)

    def _change(self, update: _Update, rows: Sequence[Sequence[Any]]) -> None:
        if len(rows) > _FEW_ROWS:
            self._many(update.many, update.values, rows)
        else:
            for row in rows:
                self._db.execute(update.one, row)

    @guarded
    def write(self, turn: Turn) -> None:
        run, named = self._db.execute, self._queries
        if turn.new_lanes:
            self._insert("lane", 9, [_lane_row(lane) for lane in turn.new_lanes])
        for lane in turn.changed_lanes.values():
            run("UPDATE lane SET open = ?, shift = ? WHERE number = ?", (lane.open, lane.shift, lane.number))
        self._write_flows(turn)
        self._write_tasks(turn)
        if turn.dependencies:
            self._insert(
                "dependency", 4, [(edge.parent, edge.child, edge.on, edge.settled) for edge in turn.dependencies]
            )
        for settled in turn.settled_edges:
            run(named["settle_edges"], settled)
        for edges, settled_now in ((turn.reopened_edges, False), (turn.closed_edges, True)):
            if edges:
                run(named["mark_edges"], (json.dumps(edges), settled_now))
        if turn.conditions:
            self._insert("condition", 2, turn.conditions)
        if turn.freed:
            self.keys.free(turn.freed)
        if turn.attempts:
            self._insert("attempt", 10, turn.attempts)
        if turn.dropped_results:
            run(
                "DELETE FROM result WHERE task IN (SELECT value FROM json_each(?))", (json.dumps(turn.dropped_results),)
            )
        if turn.results:
            self._insert("result", 2, turn.results)
        if turn.logs:
            self._insert("log (task, attempt, at, stream, text)", 5, turn.logs)
        if turn.usage or turn.changed_budgets or turn.reservations:
            self.budgets.write(turn)
        for bucket in turn.changed_buckets.values():
            run(named["bucket_put"], (bucket.name, bucket.asleep_until))
        self._many(
            named["count"], 3, [(queue, state, change) for (queue, state), change in turn.counts.items() if change]
        )
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
    def conclude(self, turn: Turn, events: EventBatch | None, meta: Mapping[str, float]) -> None:
        run, named = self._db.execute, self._queries
        for cursor in turn.done_cursors:  # first: it may have begun again since
            run(named["cursor_done"], (cursor.kind, cursor.target))
        for cursor in turn.moved_cursors.values():
            run(named["cursor_put"], (cursor.kind, cursor.target, cursor.position, cursor.value))
            cursor.stored = True
        if meta:
            self._many(named["meta_put"], 2, list(meta.items()))
        if events is not None:
            last = events.first + len(events.events) - 1
            run(
                named["event_put"],
                (events.first, last, events.at, msgpack.packb(events.events), msgpack.packb(events.ordinals_after)),
            )

    def _write_flows(self, turn: Turn) -> None:
        new = {flow.number for flow in turn.new_flows}
        if new:
            self._insert(
                f"flow (metadata, {FLOW_COLUMNS})",
                27,
                [
                    (flow.metadata, flow.number, flow.submission, flow.name, flow.state, flow.created, flow.finished, flow.first,
                     flow.received, flow.last_tag, flow.weight, flow.cancelled, flow.touched, flow.streaming, flow.on_hold,
                     flow.deleted, flow.ordering, *_flow_counts(flow))
                    for flow in turn.new_flows
                ],
            )  # fmt: skip
        rows = [
            (flow.number, flow.state, flow.finished, flow.first, flow.received, flow.last_tag, flow.cancelled, flow.touched,
             flow.streaming, flow.on_hold, flow.deleted, flow.ordering, *_flow_counts(flow))
            for number, flow in turn.changed_flows.items()
            if number not in new
        ]  # fmt: skip
        self._change(_FLOW_UPDATE, rows)
        if turn.chunks:
            self._insert("chunk", 6, [(c.flow, c.offset, c.count, c.first, c.complete, c.digest) for c in turn.chunks])

    def _write_tasks(self, turn: Turn) -> None:
        if turn.new_tasks:
            self._insert(f"task ({TASK_COLUMNS})", 36, [_task_row(task) for task, _ in turn.new_tasks])
            self._insert("body", 2, [(task.number, body) for task, body in turn.new_tasks])
            new = {task.number for task, _ in turn.new_tasks}
            changed = [task for number, task in turn.changed.items() if number not in new]
        else:
            new = set()
            changed = list(turn.changed.values())
        self._change(_TASK_UPDATE, [_task_changes(task) for task in changed])
        written = new | turn.changed.keys()
        for slot, tasks in turn.begun.items():
            self._step("begun", tasks, written, turn.now, slot)
        self._step("succeeded", turn.succeeded, written, turn.now)

    def _step(self, query: str, tasks: Sequence[Task], written: AbstractSet[int], *values: Any) -> None:
        """The same step for many tasks; what has changed otherwise, too, is written already."""
        numbers = [task.number for task in tasks if task.number not in written]
        if numbers:
            self._db.execute(self._queries[query], (json.dumps(numbers), *values))

    def _delete(self, turn: Turn) -> None:
        if turn.deleted_tasks:
            numbers = json.dumps(turn.deleted_tasks)
            for table, column in (
                ("attempt", "task"),
                ("result", "task"),
                ("body", "task"),
                ("condition", "task"),
                ("pending_edge", "task"),
                ("task", "number"),
            ):
                self._db.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", (numbers,))
        for flow in turn.deleted_flows:
            for table, column in (
                ("chunk", "flow"),
                ("addition", "flow"),
                ("claim", "flow"),
                ("max_errors", "flow"),
                ("lane", "gate"),
                ("flow", "number"),
            ):
                self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (flow,))
        if turn.deleted_tasks or turn.deleted_flows:
            self.budgets.forget(turn.deleted_tasks, turn.deleted_flows)
            self.batches.forget(turn.deleted_tasks)
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
    def shrink(self, tasks: Sequence[int], limit: int) -> int:
        numbers, before = json.dumps(tasks), self._db.total_changes()
        for name in ("delete_logs", "delete_edges"):
            gone = self._db.total_changes() - before
            if gone < limit:
                self._db.execute(self._queries[name], (numbers, limit - gone))
        return self._db.total_changes() - before

    @guarded
    def deleted_flow(self) -> int | None:
        found: int | None = self._db.execute("SELECT number FROM flow WHERE deleted = 1 ORDER BY number LIMIT 1").get
        return found

    @guarded
    def result_sizes(self, tasks: Sequence[int]) -> dict[int, int]:
        return dict(self._db.execute(self._queries["result_sizes"], (json.dumps(tasks),)))

    @guarded
    def put_queue(self, queue: Queue) -> None:
        if queue.paused or queue.most is not None:
            self._db.execute(self._queries["queue_put"], (queue.name, queue.paused, queue.most))
        else:
            self._db.execute("DELETE FROM queue WHERE name = ?", (queue.name,))

    @guarded
    def note_start(self) -> bool:
        unclean = self._db.execute("SELECT value FROM meta WHERE key = 'running'").fetchone()
        self._many(self._queries["meta_put"], 2, [("running", 1)])
        number = secrets.randbits(_DATABASE_BITS) | 1
        self._db.execute("INSERT INTO meta (key, value) VALUES ('database', ?) ON CONFLICT DO NOTHING", (number,))
        return bool(unclean and unclean[0])

    @guarded
    def note_end(self) -> None:
        self._many(self._queries["meta_put"], 2, [("running", 0)])

    @guarded
    def close(self) -> None:
        self.upkeep.close()
        self._db.close()


def _handler_from(value: bytes) -> HandlerInfo:
    fields = msgpack.unpackb(value)
    return HandlerInfo(**{**fields, "kind": Kind(fields["kind"])})


def _lane_row(lane: Lane) -> tuple[Any, ...]:
    key = lane.key
    return (lane.number, key.queue, key.bucket, key.kind, key.gate, lane.open, key.resources, lane.shift, key.others)
