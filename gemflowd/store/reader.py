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

from gemflowd.model.attempt import Outcome
from gemflowd.model.budget import Scope, Target
from gemflowd.model.errors import Refused, echo
from gemflowd.model.ids import MAX_NUMBER
from gemflowd.model.lane import amounts
from gemflowd.model.refs import FlowRef, NamedTask, Ref, TaskRange
from gemflowd.model.states import FlowState, On, State
from gemflowd.model.task import Flow, Ordering, Task, shown_id
from gemflowd.store import accounts, cache, shared_memory
from gemflowd.store.explain import explain
from gemflowd.store.metadata import MOST_LOOKED, matching
from gemflowd.store.parts import batches
from gemflowd.store.parts.schedules import COLUMNS as SCHEDULE_COLUMNS
from gemflowd.store.parts.schedules import schedule_from
from gemflowd.store.sql import FLOW_COLUMNS, TASK_COLUMNS, queries
from gemflowd.store.sqlite import flow_from, open_connection, task_from

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that one question may take.
TIME_LIMIT: Final = 10.0
#: Bytes of results in one page, about; of the tasks in a list of schedules.
_PAGE_BYTES: Final = 8 * 1024 * 1024
#: Tasks that one `status` describes.
MOST_ITEMS: Final = 10_000
_TASK_WIDTH: Final = len(TASK_COLUMNS.split(","))
_FLOW_WIDTH: Final = len(FLOW_COLUMNS.split(","))
#: Stored events that one question looks at, about; each turn's are looked at as a whole.
_MOST_EVENTS: Final = 20_000

#: Log lines that one question about a flow looks at.
_MOST_LINES: Final = 20_000

Body = dict[str, Any]
#: Of a task: its flow is not being deleted. There are few such flows at a time, and they are looked up once a statement.
_THERE: Final = "flow NOT IN (SELECT number FROM flow WHERE deleted = 1)"


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
        ranges: list[TaskRange] = []
        flows: list[Flow] = []
        for index, ref in enumerate(refs):
            path = f"refs[{index}]"
            if isinstance(ref, FlowRef):
                row = self._db.execute(self._queries["flow_row"], (ref.number,)).fetchone()
                if row is None:
                    raise Refused("not_found", f"there is no flow f{ref.number}", path)
                flows.append(flow_from(row))
            elif isinstance(ref, NamedTask):
                row = self._db.execute(
                    f"SELECT number FROM task WHERE flow = ? AND id = ? AND {_THERE}", (ref.flow, ref.id)
                ).fetchone()
                if row is None:
                    raise Refused("not_found", f"there is no task f{ref.flow}/{ref.id}", path)
                ranges.append(TaskRange(row[0], row[0]))
            else:
                if not self._db.execute(
                    f"SELECT 1 FROM task WHERE number BETWEEN ? AND ? AND {_THERE} LIMIT 1", (ref.first, ref.last)
                ).fetchone():
                    many = ref.last > ref.first
                    what = f"are no tasks {ref.first} to {ref.last}" if many else f"is no task {ref.first}"
                    raise Refused("not_found", f"there {what}", path)
                ranges.append(ref)
        return ranges, flows

    def last_task(self) -> int:
        """The highest number of a task."""
        number: int | None = self._db.execute("SELECT max(number) FROM task").get
        return number or 0

    def states(self, refs: Sequence[Ref]) -> dict[State, int]:
        """How many of the named tasks are in each state; each counts once, however often it is named."""
        ranges, flows = self.resolve(refs)
        counts: dict[State, int] = {}
        for flow in {flow.number: flow for flow in flows}.values():
            for state, count in flow.counts.items():
                counts[state] = counts.get(state, 0) + count
        named = json.dumps([flow.number for flow in flows])
        for span in merged(ranges):
            for state, count in self._db.execute(self._queries["states_in_range"], (span.first, span.last, named)):
                counts[State(state)] = counts.get(State(state), 0) + count
        return counts

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
        try:
            ranges, _ = self.resolve([ref])
        except Refused as refused:
            refused.path = "ref"
            raise
        if not ranges or ranges[0].first != ranges[0].last:
            raise Refused("invalid_value", "name one task", "ref")
        return task_from(next(iter(self._db.execute(self._queries["tasks"], (json.dumps([ranges[0].first]),)))))

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
        items = [{**_flow_body(flow), **accounts.body_of(self._db, Scope.FLOW, flow.number)} for flow in flows]
        for span in merged(ranges):
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
        tasks = [_task_body(task_from(row[:_TASK_WIDTH]), row[_TASK_WIDTH]) for row in rows]
        return {"tasks": tasks, "next": following}

    def show(self, ref: Ref) -> Body:
        if isinstance(ref, FlowRef):
            row = self._db.execute(self._queries["flow_row"], (ref.number,)).fetchone()
            if row is None:
                raise Refused("not_found", f"there is no flow f{ref.number}", "ref")
            return {
                **_flow_body(flow_from(row)),
                **accounts.body_of(self._db, Scope.FLOW, ref.number),
                "metadata": msgpack.unpackb(row[_FLOW_WIDTH]) if row[_FLOW_WIDTH] else {},
            }
        task = self.one_task(ref)
        body = msgpack.unpackb(
            self._db.execute("SELECT value FROM body WHERE task = ?", (task.number,)).get, strict_map_key=False
        )
        queue_name = self._db.execute("SELECT queue FROM lane WHERE number = ?", (task.lane,)).get
        attempts = [
            {
                "number": row[0],
                "worker": row[1],
                "started": row[2],
                "finished": row[3],
                "outcome": Outcome(row[4]).word,
                "seconds": row[5],
                "error": msgpack.unpackb(row[6], strict_map_key=False) if row[6] else None,
                "usage": accounts.attempt_usage(row[7]),
                "peak_kb": row[8],
            }
            for row in self._db.execute(self._queries["attempts"], (task.number,))
        ]
        deps = [
            {
                "number": number,
                "flow": flow,
                "id": shown_id(name, flags),
                "on": On(on).word,
                "state": State(state).word,
            }
            for number, flow, name, flags, on, state in self._db.execute(self._queries["deps_of"], (task.number,))
        ]
        shown = {
            **_task_body(task, queue_name),
            "data": body["data"],
            "metadata": body.get("metadata", {}),
            "timeout": task.timeout,
            "retries": task.retries,
            "due": task.due,
            **self._rules_of(task),
            **accounts.body_of(self._db, Scope.TASK, task.number),
            "deps": deps,
            "dependents": [child for (child,) in self._db.execute(self._queries["dependents_of"], (task.number,))],
            "attempts_log": attempts,
        }
        if task.state is State.SUCCEEDED:
            value = self._db.execute("SELECT value FROM result WHERE task = ?", (task.number,)).get
            shown["result"] = msgpack.unpackb(value, strict_map_key=False)
            if attempts and attempts[-1]["usage"] is not None:
                _add_cost(shown["result"], attempts[-1]["usage"])
        elif task.state.terminal:
            shown["error"] = _error(task, attempts[-1]["error"] if attempts else None)
        return shown

    def _rules_of(self, task: Task) -> Body:
        """What else was asked for a task, as far as it is kept."""
        run = self._db.execute
        resources = run("SELECT resources FROM lane WHERE number = ?", (task.lane,)).get
        return {
            "when": run("SELECT expression FROM condition WHERE task = ?", (task.number,)).get,
            "expires": task.expires,
            "key": run("SELECT key FROM unique_key WHERE task = ?", (task.number,)).get,
            "resources": dict(amounts(resources)),
            "retry_on": json.loads(task.rules) if task.rules else {},
            "depth": task.depth,
            "estimate": task.estimate,
        }

    def results(self, refs: Sequence[Ref], after: int, limit: int) -> Body:
        """Lines of tasks that have ended, in order of submission."""
        return self._lines(*self.resolve(refs), after, limit)

    def results_in_order(self, refs: Sequence[Ref], after: int, limit: int) -> Body:
        """The same without a gap: up to the first task that has not ended. `done`: nothing is left."""
        ranges, flows = self.resolve(refs)
        firsts = [self._db.execute(self._queries["unended_in_flow"], (flow.number, after, limit)).get for flow in flows]
        for span in ranges:
            begin = max(after, span.first - 1)
            firsts.append(self._db.execute(self._queries["unended_in_range"], (begin, span.last, limit)).get)
        first = min((number for number in firsts if number is not None), default=None)
        page = self._lines(ranges, flows, after, limit, first)
        more = (
            first is not None or page["next"] is not None or any(not FlowState(flow.state).terminal for flow in flows)
        )
        last = page["results"][-1]["number"] if page["results"] else after
        return {"results": page["results"], "next": last, "done": not more}

    def _lines(
        self, ranges: Sequence[TaskRange], flows: Sequence[Flow], after: int, limit: int, before: int | None = None
    ) -> Body:
        found: dict[int, Task] = {}
        last = MAX_NUMBER if before is None else before - 1
        for flow in flows:
            rows = self._db.execute(self._queries["ended_in_flow"], (flow.number, after, last, limit))
            found.update((row[0], task_from(row)) for row in rows)
        for span in ranges:
            scope = (max(after, span.first - 1), min(span.last, last), limit)
            found.update((row[0], task_from(row)) for row in self._db.execute(self._queries["ended_in_range"], scope))
        numbers = sorted(found)[:limit]
        lines: list[Body] = []
        size = 0
        for start in range(0, len(numbers), 100):
            some, size = self._that_fit(numbers[start : start + 100], size, first=not lines)
            ends = list(self._db.execute(self._queries["results"], (json.dumps(some),)))
            used = [number for number, *_, has_used in ends if has_used]
            usages = accounts.usages(self._db, json.dumps(used)) if used else {}
            for number, value, error, seconds, _ in ends:
                lines.append(_result_line(found[number], value, error, seconds, usages.get(number)))
            if len(some) < len(numbers[start : start + 100]):
                return {"results": lines, "next": lines[-1]["number"]}
        return {"results": lines, "next": numbers[-1] if len(numbers) == limit else None}

    def _that_fit(self, numbers: list[int], size: int, *, first: bool) -> tuple[list[int], int]:
        """Those whose results still fit on a page that has `size` bytes already, and its bytes then; at least one if `first`."""
        sizes = dict(self._db.execute(self._queries["result_sizes"], (json.dumps(numbers),)))
        for index, number in enumerate(numbers):
            size += sizes.get(number, 0) + 200
            if size > _PAGE_BYTES and not (first and index == 0):
                return numbers[:index], size
        return numbers, size

    def logs(self, ref: Ref, after: int, limit: int) -> Body:
        if isinstance(ref, FlowRef):
            return self._flow_logs(ref, after, limit)
        task = self.one_task(ref)
        rows = list(self._db.execute(self._queries["logs"], (task.number, after, limit)))
        lines = [
            {"seq": seq, "at": at, "attempt": attempt, "stream": stream, "text": text}
            for seq, at, attempt, stream, text in rows
        ]
        ended = task.state.terminal and len(rows) < limit
        return {"lines": lines, "next": rows[-1][0] if rows else after, "ended": ended, "task": task.number}

    def _flow_logs(self, ref: FlowRef, after: int, limit: int) -> Body:
        """Those of all its tasks, as they came. `next` says how far was looked."""
        row = self._db.execute(self._queries["flow_row"], (ref.number,)).fetchone()
        if row is None:
            raise Refused("not_found", f"there is no flow f{ref.number}", "ref")
        flow = flow_from(row)
        lines: list[Body] = []
        looked = 0
        rows = self._db.execute(self._queries["logs_from"], (after, _MOST_LINES))
        for seq, at, attempt, stream, text, task, its, name, flags in rows:
            looked += 1
            after = seq
            if its == flow.number:
                line = {"seq": seq, "at": at, "attempt": attempt, "stream": stream, "text": text}
                lines.append({**line, "task": task, "id": shown_id(name, flags)})
                if len(lines) == limit:
                    break
        ended = flow.state not in (FlowState.OPEN, FlowState.ACTIVE) and looked < _MOST_LINES and len(lines) < limit
        return {"lines": lines, "next": after, "ended": ended, "task": None}

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
        row = self._db.execute(self._queries["flow_of"], (submission,)).fetchone()
        if row is None:  # it may have been answered with another one's task, or have added to a flow
            sql = "SELECT f.submission FROM addition a JOIN flow f ON f.number = a.flow WHERE a.submission = ?"
            row = self._db.execute(self._queries["flow_of"], (self._db.execute(sql, (submission,)).get,)).fetchone()
        if row is None or flow_from(row).deleted:
            raise Refused("not_found", "there is no such submission", "submission")
        flow = flow_from(row)
        added = "SELECT coalesce(sum(count), 0) FROM addition WHERE flow = ? AND grown = 1"
        grown = self._db.execute(added, (flow.number,)).get if flow.streaming else 0
        return {"flow": flow.number, "state": FlowState(flow.state).word, "received": flow.received - grown}

    def events(self, start: int, topics: Sequence[str], limit: int) -> Body:
        """Stored events from a number on. `topics` are prefixes. `next` says how far was looked."""
        found: list[Body] = []
        prefixes = tuple(topics)
        first_kept, newest = next(iter(self._db.execute(self._queries["kept_events"])))
        missed = self._missed(start, prefixes) if first_kept > start else {}
        following, looked = max(start, first_kept), 0
        for first, last, at, blob in self._db.execute(self._queries["events_from"], (following,)):
            for index, (topic, fields) in enumerate(msgpack.unpackb(blob, strict_map_key=False)):
                seq = first + index
                if seq < start or (prefixes and not topic.startswith(prefixes)):
                    continue
                if len(found) == limit:
                    return {"events": found, "next": seq, "first_kept": first_kept, **missed}
                found.append({"seq": seq, "at": at, "topic": topic, **fields})
            following = last + 1
            looked += last - first + 1
            if looked >= _MOST_EVENTS:
                break
        return {"events": found, "next": min(following, newest + 1), "first_kept": first_kept, **missed}

    def _missed(self, start: int, prefixes: tuple[str, ...]) -> Body:
        """What was there from `start` on and is kept no longer. The counts that are stored with the first events that are kept,
        less those events, are those of all that came before."""
        row = next(iter(self._db.execute("SELECT first, events, ordinals FROM event ORDER BY first LIMIT 1")))
        first, events, ordinals = row[0], msgpack.unpackb(row[1], strict_map_key=False), msgpack.unpackb(row[2])
        for topic, _ in events:
            ordinals[topic] -= 1
        topics = {
            topic: count for topic, count in ordinals.items() if count and (not prefixes or topic.startswith(prefixes))
        }
        return {"missed": {"first": start, "last": first - 1, "topics": topics}}

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
        shown = "shown" if sizes <= _PAGE_BYTES else "NULL"
        rows = self._db.execute(f"SELECT {SCHEDULE_COLUMNS}, {shown} FROM schedule ORDER BY name")
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
        stored = self._db.execute(self._queries["stored_digest"], (submission, offset, count, complete)).get
        return bool(stored == digest)

    def locate(
        self, submission: str, grow: int | None, names: list[str], elsewhere: list[tuple[int, str]], numbers: list[int]
    ) -> Body:
        """Numbers of tasks by name: in the flow of a submission (or of a task that adds to it), or in other flows; and which of
        some numbers exist. What is being received or deleted elsewhere does not count."""
        by_name = "SELECT id, number FROM task WHERE flow = ? AND id IN (SELECT value FROM json_each(?))"
        own = self._db.execute("SELECT number FROM flow WHERE submission = ?", (submission,)).get
        if grow is not None:
            own = self._db.execute("SELECT flow FROM task WHERE number = ?", (grow,)).get
        found = dict(self._db.execute(by_name, (own, json.dumps(names)))) if own is not None else {}
        flows: dict[int, list[str]] = {}
        for flow, name in elsewhere:
            flows.setdefault(flow, []).append(name)
        others = {
            (flow, name): number
            for flow, its in flows.items()
            if flow == own or self._settled_flow(flow)
            for name, number in self._db.execute(by_name, (flow, json.dumps(its)))
        }
        sql = "SELECT number, flow FROM task WHERE number IN (SELECT value FROM json_each(?))"
        rows = list(self._db.execute(sql, (json.dumps(numbers),)))
        good = {flow for flow in {flow for _, flow in rows} if flow == own or self._settled_flow(flow)}
        return {"names": found, "elsewhere": others, "numbers": {number for number, flow in rows if flow in good}}

    def _settled_flow(self, flow: int) -> bool:
        """Whether a flow is there to stay: neither being received nor being deleted."""
        return bool(self._db.execute("SELECT state <> 1 AND deleted = 0 FROM flow WHERE number = ?", (flow,)).get)


def merged(ranges: Sequence[TaskRange]) -> list[TaskRange]:
    """The same tasks in ranges that don't overlap."""
    found: list[TaskRange] = []
    for span in sorted(ranges, key=lambda span: span.first):
        if found and span.first <= found[-1].last + 1:
            found[-1] = TaskRange(found[-1].first, max(found[-1].last, span.last))
        else:
            found.append(span)
    return found


def _schedule_body(row: Sequence[Any]) -> Body:
    *its, shown = row
    return schedule_from(its).body(None if shown is None else msgpack.unpackb(shown, strict_map_key=False))


def _flow_body(flow: Flow) -> Body:
    return {
        "kind": "flow",
        "flow": flow.number,
        "name": flow.name,
        "state": FlowState(flow.state).word,
        "submission": flow.submission,
        "created": flow.created,
        "finished": flow.finished,
        "total": flow.received,
        "ordering": flow.ordering == Ordering.NOW,
        "tasks": {state.word: count for state, count in flow.counts.items()},
    }


def _task_body(task: Task, queue_name: str) -> Body:
    return {
        "kind": "task",
        "number": task.number,
        "id": shown_id(task.id, task.flags),
        "flow": task.flow,
        "type": task.type,
        "state": task.state.word,
        "priority": task.priority,
        "queue": queue_name,
        "created": task.created,
        "started": task.started,
        "finished": task.finished,
        "attempts": task.attempts,
        "reason": task.reason,
        "worker": task.slot,
        "memory_mb": task.memory_mb,
    }


def _error(task: Task, last: Body | None) -> Body:
    """Why a task ended without a result."""
    if last is not None and task.state in (State.FAILED, State.QUARANTINED):
        return {key: last[key] for key in ("class", "code", "message") if key in last}
    return {"class": task.state.word.capitalize(), "code": task.state.word, "message": task.reason or task.state.word}


def _add_cost(result: Any, usage: Body) -> None:
    """To the usage that a result has itself, as the handler gave it."""
    its = result.get("usage") if isinstance(result, dict) else None
    if isinstance(its, dict):
        its["cost"] = usage.get("cost")


def _result_line(
    task: Task, value: bytes | None, error: bytes | None, seconds: float | None, usage: accounts.TaskUsage | None
) -> Body:
    line: Body = {
        "id": shown_id(task.id, task.flags),
        "number": task.number,
        "flow": task.flow,
        "type": task.type,
        "state": task.state.word,
        "ok": task.state is State.SUCCEEDED,
    }
    if value is not None and task.state is State.SUCCEEDED:
        line["result"] = result = msgpack.unpackb(value, strict_map_key=False)
        if usage is not None and usage.last is not None:
            _add_cost(result, usage.last)
    else:
        line["error"] = _error(task, msgpack.unpackb(error, strict_map_key=False) if error else None)
    line["attempts"] = task.attempts
    line["seconds"] = seconds
    if usage is not None:
        line["usage"] = usage.body()
    return line
