"""What people ask of the store: a read-only connection on a thread of its own, so that no question holds the queue up.

Answers are the bodies of `docs/protocol.md`. Each question has a time limit, so that it can't pin the WAL. Flows that are being
deleted are not there for anybody: every question leaves them out.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import apsw
import msgpack

from gemflowd.model.budget import Scope, Target
from gemflowd.model.errors import Refused, echo
from gemflowd.model.refs import FlowRef, Ref, TaskRange
from gemflowd.model.states import FlowState, State
from gemflowd.model.task import Flow, Task
from gemflowd.store import accounts, cache, finding, received, results, shared_memory, shown, told
from gemflowd.store.explain import explain
from gemflowd.store.metadata import MOST_LOOKED, matching
from gemflowd.store.parts import batches
from gemflowd.store.parts.schedules import COLUMNS as SCHEDULE_COLUMNS
from gemflowd.store.parts.schedules import schedule_from
from gemflowd.store.sql import TASK_COLUMNS, queries
from gemflowd.store.sqlite import flow_from, open_connection, task_from

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that one question may take.
TIME_LIMIT: Final = 10.0
#: Bytes of the tasks in a list of schedules.
_SHOWN_BYTES: Final = 8 * 1024 * 1024
#: Tasks that one `status` describes.
MOST_ITEMS: Final = 10_000
_TASK_WIDTH: Final = len(TASK_COLUMNS.split(","))

Body = dict[str, Any]


class Reader:
    """Answers questions one after the other on its own thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inbox: queue.SimpleQueue[tuple[Future[Any], Callable[[Questions], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._thread.start()

    def ask(self, question: Callable[Concatenate[Questions, P], T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Ask one of the methods of `Questions`; from any thread."""
        future: Future[T] = Future()
        self._inbox.put((future, lambda questions: question(questions, *args, **kwargs)))
        return future

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        questions: Questions | None = None
        while (item := self._inbox.get()) is not None:
            future, question = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                questions = questions or Questions(self._path)
                future.set_result(questions.timed(question))
            except BaseException as error:  # noqa: BLE001 - it belongs to the asker
                future.set_exception(error)
        if questions is not None:
            questions.close()


class Questions:
    """Every question, on one connection and one thread."""

    def __init__(self, path: Path) -> None:
        self._db = open_connection(path, read_only=True)
        self._queries = queries()
        self._deadline = 0.0
        self._db.set_progress_handler(lambda: time.monotonic() > self._deadline, 10_000)

    def timed(self, question: Callable[[Questions], T]) -> T:
        """Run a question in one read transaction: all its parts see the same moment."""
        self._deadline = time.monotonic() + TIME_LIMIT
        try:
            self._db.execute("BEGIN")
            try:
                return question(self)
            finally:
                self._db.execute("ROLLBACK")
        except apsw.InterruptError:
            raise Refused("overloaded", f"the answer takes more than {TIME_LIMIT:g} s; ask for less") from None

    def close(self) -> None:
        self._db.close()

    # Finding

    def resolve(self, refs: Sequence[Ref]) -> tuple[list[TaskRange], list[Flow]]:
        """What references name: tasks as ranges, and flows.

        Raises:
            Refused: `not_found`.
        """
        return finding.resolve(self._db, self._queries, refs)

    def last_task(self) -> int:
        """The highest number of a task."""
        number: int | None = self._db.execute("SELECT max(number) FROM task").get
        return number or 0

    def states(self, refs: Sequence[Ref]) -> dict[State, int]:
        """How many of the named tasks are in each state; each counts once, however often it is named."""
        return finding.states(self._db, self._queries, refs)

    def receiving(self, refs: Sequence[Ref]) -> bool:
        """Whether more tasks may still come to what is named."""
        return any(flow.state == FlowState.OPEN for flow in self.resolve(refs)[1])

    def progress(self, refs: Sequence[Ref], results: int = 0) -> tuple[dict[State, int], bool, Body]:
        """`states` and `receiving` of one moment; once all have ended, so many of their results, too."""
        counts, receiving = self.states(refs), self.receiving(refs)
        over = results and not receiving and all(state.terminal for state, count in counts.items() if count)
        return counts, receiving, self.results(refs, 0, results) if over else {}

    def one_task(self, ref: Ref) -> Task:
        """The one task that a reference names."""
        return finding.one_task(self._db, self._queries, ref)

    # Answers

    def totals(self) -> Body:
        counts = dict(self._db.execute(self._queries["counters"]))
        for row in self._db.execute(self._queries["hidden_flows"]):
            for state, count in flow_from(row).counts.items():
                counts[state] -= count
        tasks = {State(state).word: count for state, count in counts.items()}
        flows = {FlowState(state).word: count for state, count in self._db.execute(self._queries["flow_counters"])}
        return {
            "tasks": {state.word: tasks.get(state.word, 0) for state in State},
            "flows": flows,
            "held_budgets": accounts.held(self._db),
        }

    def items(self, refs: Sequence[Ref]) -> Body:
        ranges, flows = self.resolve(refs)
        items = [shown.flow_body(self._db, flow) for flow in flows]
        for span in finding.merged(ranges):
            after: int | None = span.first - 1
            while after is not None:
                page = self.page(f"AND number <= {int(span.last)}", (), after, 1000)
                items += page["tasks"]
                after = page["next"]
                if len(items) > MOST_ITEMS:
                    raise Refused("invalid_value", f"at most {MOST_ITEMS} tasks; page through `list` instead", "refs")
        return {"items": items}

    def page(
        self, where: str, values: tuple[Any, ...], after: int, limit: int, metadata: Mapping[str, Any] | None = None
    ) -> Body:
        """One page of `list`. `where` is put together by this program, `values` are its parameters. With `metadata` a page may
        have fewer than `limit`, or none, and there are more all the same."""
        if metadata:
            sql = self._queries["list_with_bodies"].replace("{where}", where)
            rows, following = matching(self._db.execute(sql, (after, MOST_LOOKED, *values)), metadata, limit)
        else:
            rows = list(self._db.execute(self._queries["list"].replace("{where}", where), (after, limit, *values)))
            following = rows[-1][0] if len(rows) == limit else None
        tasks = [shown.task_body(task_from(row[:_TASK_WIDTH]), row[_TASK_WIDTH]) for row in rows]
        return {"tasks": tasks, "next": following}

    def show(self, ref: Ref) -> Body:
        if isinstance(ref, FlowRef):
            return shown.flow(self._db, self._queries, ref.number)
        return shown.task(self._db, self._queries, self.one_task(ref))

    def results(self, refs: Sequence[Ref], after: int, limit: int) -> Body:
        """Lines of tasks that have ended, in order of submission."""
        return results.page(self._db, self._queries, refs, after, limit)

    def results_in_order(self, refs: Sequence[Ref], after: int, limit: int) -> Body:
        """The same without a gap: up to the first task that has not ended. `done`: nothing is left."""
        return results.in_order(self._db, self._queries, refs, after, limit)

    def logs(self, ref: Ref, after: int, limit: int) -> Body:
        return told.logs(self._db, self._queries, ref, after, limit)

    def flow_numbers(self, numbers: Sequence[int]) -> Body:
        """`{database, next_flow, there}`: the database's own number, the first flow it has not given a number yet, and which of these
        flows it has, those that are being deleted among them."""
        there = "SELECT number FROM flow WHERE number IN (SELECT value FROM json_each(?))"
        meta = dict(self._db.execute("SELECT key, value FROM meta WHERE key IN ('database', 'next_flow')"))
        last = self._db.execute("SELECT max(number) FROM flow").get or 0
        return {
            "database": meta["database"],
            "next_flow": max(meta.get("next_flow", 1), last + 1),
            "there": {number for (number,) in self._db.execute(there, (json.dumps(numbers),))},
        }

    def submission(self, submission: str) -> Body:
        return received.submission(self._db, self._queries, submission)

    def events(self, start: int, topics: Sequence[str], limit: int) -> Body:
        """Stored events from a number on. `topics` are prefixes. `next` says how far was looked."""
        return told.events(self._db, self._queries, start, topics, limit)

    def queues(self) -> Body:
        """Every queue that has tasks, or was paused or limited."""
        found: dict[str, Body] = {}
        for name, paused, most in self._db.execute("SELECT name, paused, most FROM queue"):
            found[name] = {"queue": name, "paused": bool(paused), "limit": most, "tasks": {}}
        hidden = {(name, state): count for name, state, count in self._db.execute(self._queries["hidden_tasks"])}
        for name, state, stored in self._db.execute("SELECT queue, state, count FROM counter WHERE count > 0"):
            count = stored - hidden.get((name, state), 0)
            if not count:
                continue
            item = found.setdefault(name, {"queue": name, "paused": False, "limit": None, "tasks": {}})
            item["tasks"][State(state).word] = count
        return {"queues": [found[name] for name in sorted(found)]}

    def schedules(self) -> Body:
        """Every schedule, by name. The tasks only where all of them together are small."""
        sizes = self._db.execute("SELECT sum(length(shown)) FROM schedule").get or 0
        task = "shown" if sizes <= _SHOWN_BYTES else "NULL"
        rows = self._db.execute(f"SELECT {SCHEDULE_COLUMNS}, {task} FROM schedule ORDER BY name")
        return {"schedules": [_schedule_body(row) for row in rows]}

    def schedule(self, name: str) -> Body:
        row = self._db.execute(f"SELECT {SCHEDULE_COLUMNS}, shown FROM schedule WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise Refused("not_found", f"there is no schedule {echo(name)}", "name")
        return _schedule_body(row)

    def explain(self, ref: Ref, resources: dict[str, float], devices: Sequence[float] = ()) -> Body:
        """Why a task is not running, as far as it is stored. See `store.explain`."""
        return explain(self._db, self._queries, self.one_task(ref), resources, devices)

    def usage(self, by: str, since: float | None, after: int, limit: int) -> Body:
        return accounts.usage(self._db, by, since, after, limit)

    def budgets(self, after: int, limit: int) -> Body:
        return accounts.budgets(self._db, after, limit)

    def waiting_models(self, scope: Scope, ref: Ref | None, queue: str) -> list[str]:
        """The models that tasks call which wait, of what a budget would be for."""
        target: Target = queue
        if ref is not None:
            try:
                ranges, flows = self.resolve([ref])
            except Refused as refused:
                refused.path = "of"
                raise
            target = flows[0].number if flows else ranges[0].first
        return accounts.waiting_models(self._db, scope, target)

    def memory_get(self, namespace: str, key: str, moment: shared_memory.Moment) -> Body:
        return shared_memory.get(self._db, namespace, key, moment)

    def memory_list(self, page: tuple[str, str, str, int, bool], moment: shared_memory.Moment) -> Body:
        """`page`: the fields of `shared_memory.Page`."""
        return shared_memory.listed(self._db, shared_memory.Page(*page), moment)

    def memory_namespaces(self, moment: shared_memory.Moment) -> Body:
        return shared_memory.namespaces(self._db, moment)

    def cached_value(self, number: int) -> bytes | None:
        return cache.value(self._db, number)

    def batch_questions(self, batch: int, after: int) -> Body:
        return batches.questions(self._db, batch, after)

    def batch_answer(self, task: int) -> bytes | None:
        return batches.answer(self._db, task)

    def cache_totals(self) -> Body:
        return cache.totals(self._db)

    def cache_stats(self) -> Body:
        return cache.stats(self._db)

    def cache_entries(self, limit: int) -> Body:
        return cache.entries(self._db, limit)

    def repeats(self, submission: str, offset: int, count: int, complete: bool, digest: bytes) -> bool:
        """Whether that request of a submission is stored already, with the same content."""
        return received.repeats(self._db, self._queries, submission, offset, count, complete, digest)

    def locate(
        self, submission: str, grow: int | None, names: list[str], elsewhere: list[tuple[int, str]], numbers: list[int]
    ) -> Body:
        """Numbers of tasks by name: in the flow of a submission (or of a task that adds to it), or in other flows; and which of
        some numbers exist. What is being received or deleted elsewhere does not count."""
        return received.locate(self._db, submission, grow, names, elsewhere, numbers)


def _schedule_body(row: Sequence[Any]) -> Body:
    *its, shown = row
    return schedule_from(its).body(None if shown is None else msgpack.unpackb(shown, strict_map_key=False))
