"""Everything that a store holds, for tests that look behind its verbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from gemflowd.core.turn import CursorKind
from gemflowd.model.attempt import Outcome
from gemflowd.model.states import On, State
from gemflowd.model.task import Flow, Task
from gemflowd.store.sql import FLOW_COLUMNS, TASK_COLUMNS
from gemflowd.store.sqlite import SqliteStore, flow_from, task_from


class StoredEvents(NamedTuple):
    """The events of one turn as they are stored."""

    first: int
    last: int
    at: float
    events: list[list[Any]]
    ordinals: dict[str, int]  # of every topic, after these events


@dataclass(slots=True)
class Contents:
    tasks: dict[int, Task]
    flows: dict[int, Flow]
    edges: list[tuple[int, int, On, bool]]  # parent, child, on, settled
    results: dict[int, bytes]
    bodies: dict[int, bytes]
    attempts: dict[tuple[int, int], Outcome]  # (task, number)
    events: list[StoredEvents]
    counters: dict[tuple[str, State], int]  # those that are not 0
    cursors: dict[tuple[CursorKind, int], int]  # -> position
    queues: dict[int, str]  # of the lanes
    logs: list[tuple[int, int, float, str, str]]
    chunks: int
    going: set[int]  # tasks of flows that are being removed

    def counted(self) -> dict[tuple[str, State], int]:
        """What the counters should say."""
        counts: dict[tuple[str, State], int] = {}
        for task in self.tasks.values():
            key = (self.queues[task.lane], task.state)
            counts[key] = counts.get(key, 0) + 1
        return counts


def contents(store: Any) -> Contents:
    assert isinstance(store, SqliteStore)
    run = store._db.execute
    return Contents(
        tasks={row[0]: task_from(row) for row in run(f"SELECT {TASK_COLUMNS} FROM task")},
        flows={row[0]: flow_from(row) for row in run(f"SELECT {FLOW_COLUMNS} FROM flow")},
        edges=[
            (parent, child, On(on), bool(settled))
            for parent, child, on, settled in run('SELECT parent, child, "on", settled FROM dependency ORDER BY 1, 2')
        ],
        results=dict(run("SELECT task, value FROM result")),
        bodies=dict(run("SELECT task, value FROM body")),
        attempts={(task, n): Outcome(outcome) for task, n, outcome in run("SELECT task, number, outcome FROM attempt")},
        events=[
            StoredEvents(first, last, at, msgpack.unpackb(events), msgpack.unpackb(ordinals))
            for first, last, at, events, ordinals in run(
                "SELECT first, last, at, events, ordinals FROM event ORDER BY first"
            )
        ],
        counters={
            (queue, State(state)): count
            for queue, state, count in run("SELECT queue, state, count FROM counter WHERE count <> 0")
        },
        cursors={
            (CursorKind(kind), target): at for kind, target, at in run("SELECT kind, target, position FROM cursor")
        },
        queues=dict(run("SELECT number, queue FROM lane")),
        logs=list(run("SELECT task, attempt, at, stream, text FROM log ORDER BY seq")),
        chunks=run("SELECT count(*) FROM chunk").get,
        going={
            number
            for (number,) in run(
                "SELECT number FROM task WHERE flow IN (SELECT number FROM flow WHERE deleted = 1)"
                " OR flow IN (SELECT target FROM cursor WHERE kind = 4)"
            )
        },
    )
