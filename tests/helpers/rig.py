"""The engine on the test's own thread, with a clock that stands, a fake executor, and a store that can fail or be lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from helpers.fake_executor import FakeExecutor
from helpers.store_contents import Contents, contents
from helpers.tasks import Answer, submission

from gemflowd.core.invariants import violations
from gemflowd.core.turn import CursorKind
from gemflowd.engine.clocks import Clocks
from gemflowd.engine.engine import Engine
from gemflowd.model.attempt import Kind, Outcome, Start
from gemflowd.model.effects import Effects
from gemflowd.model.facts import Cancel, Fact, NewTask, Retry, SetQueue
from gemflowd.model.refs import parse_all
from gemflowd.model.rules import Rules
from gemflowd.model.states import State
from gemflowd.model.task import Task
from gemflowd.store.sqlite import SqliteStore


class Clock:
    """Stands still unless a test moves it: `now` for both clocks, `jump` for the wall clock alone."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self.skew = 0.0

    def wall(self) -> float:
        return self.now + self.skew

    def monotonic(self) -> float:
        return self.now

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.skew += seconds


class InMemory:
    """Where a store's content outlives an engine: here, in the test's memory."""

    def __init__(self) -> None:
        self.store = SqliteStore(Path(":memory:"))

    def open(self) -> SqliteStore:
        return self.store

    def crash(self) -> None:
        self.store.rollback()
        committed = self.store._db.serialize("main")
        self.store.close()
        self.store = SqliteStore(Path(":memory:"))
        self.store._db.deserialize("main", committed)


class OnDisk:
    """The same with a database file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.store = SqliteStore(path)

    def open(self) -> SqliteStore:
        return self.store

    def crash(self) -> None:
        self.store.close()
        self.store = SqliteStore(self._path)


class Flaky:
    """A store that fails once, when asked to, in the verb that is named."""

    def __init__(self, store: Any) -> None:
        self.inner = store
        self.fail: tuple[str, Exception] | None = None

    def __getattr__(self, verb: str) -> Any:
        if self.fail is not None and self.fail[0] == verb:
            error = self.fail[1]

            def failing(*args: Any) -> None:
                self.fail = None
                raise error

            return failing
        return getattr(self.inner, verb)


class Rig:
    """An engine that is driven turn by turn.

    Args:
        backing: where the store is; in memory unless said otherwise.
        seed: of the engine's dice.
        forgets: whether what is old is deleted, by the rules; most tests move the clock and mean something else.
    """

    def __init__(
        self,
        backing: InMemory | OnDisk | None = None,
        rules: Rules | None = None,
        seed: int = 0,
        *,
        forgets: bool = False,
        now: float = 1_000_000.0,
        **engine: Any,
    ) -> None:
        self.backing = backing or InMemory()
        self.rules = rules or Rules()
        if not forgets:
            self.rules = replace(self.rules, keep_flows=0.0, keep_events=0.0)
        self._engine = engine
        self.clock = Clock(now)
        self.listeners: list[Callable[[Effects], None]] = []
        self._seed = seed
        self.open()

    def open(self) -> None:
        """A daemon starts, on what is committed."""
        self.executor = FakeExecutor(self.post)
        self.effects: list[Effects] = []
        self.store = Flaky(self.backing.open())
        clocks = Clocks(self.clock.wall, self.clock.monotonic)
        self.engine = Engine(
            lambda: self.store, self.rules, clocks, self._deliver, random.Random(self._seed), **self._engine
        )
        self.engine.open()

    def crash(self) -> None:
        """The daemon is gone at once, its workers with it, and another one starts."""
        self.backing.crash()
        self.open()

    def stop(self) -> None:
        """The daemon ends as it should; what runs is cut off. Then another one starts."""
        self.store.note_end()
        self.crash()

    # Facts in, turns, effects out

    def post(self, *facts: Fact) -> None:
        for fact in facts:
            self.engine.post(fact)

    def would_sleep(self) -> bool:
        engine = self.engine
        busy = engine._left or not engine._inbox.empty() or engine._memory.cursors or engine._memory.again
        return not busy and engine._patience() != 0.0

    def turn(self) -> Effects:
        """One turn with what the engine's thread would take; none, if it would sleep."""
        effects = self.engine.turn([] if self.would_sleep() else self.engine._take())
        self._deliver(effects)
        return effects

    def run(self, most: int = 1_000) -> list[Effects]:
        """Turn by turn until the engine's thread would sleep."""
        done: list[Effects] = []
        while not self.would_sleep():
            done.append(self.turn())
            assert len(done) <= most, "the engine does not come to rest"
        return done

    def _deliver(self, effects: Effects) -> None:
        """As the daemon does: act, publish, reply."""
        self.effects.append(effects)
        if effects.retract:
            self.executor.retract(effects.retract)
        self.executor.start(effects.starts)
        for task, token in effects.cancels:
            self.executor.cancel(task, token)
        for reply, body in effects.replies:
            reply(body)
        for listener in self.listeners:
            listener(effects)

    # Short ways

    def submit(self, tasks: Sequence[NewTask], uuid: str = "s1", **how: Any) -> Answer:
        answer = Answer()
        self.post(submission(answer, uuid, tasks, **how))
        self.run()
        return answer

    def cancel(self, *refs: object) -> Answer:
        answer = Answer()
        self.post(Cancel(answer, parse_all(list(refs))))
        self.run()
        return answer

    def retry(self, *refs: object, downstream: bool = False) -> Answer:
        answer = Answer()
        self.post(Retry(answer, parse_all(list(refs)), downstream))
        self.run()
        return answer

    def end(self, number: int, outcome: Outcome = Outcome.DONE, **how: Any) -> None:
        self.executor.end(self.attempt(number), outcome, **how)
        self.run()

    def attempt(self, number: int) -> Start:
        """The live attempt of a task."""
        (order,) = [order for order in self.executor.handed() if order.task == number]
        return order

    def slots(self, count: int = 1, kind: Kind = Kind.BLOCKING, size: int = 1) -> list[str]:
        names = [self.executor.add(kind, size) for _ in range(count)]
        self.run()
        return names

    def running(self) -> list[int]:
        return [order.task for order in self.executor.handed()]

    # Looking

    def contents(self) -> Contents:
        return contents(self.store.inner)

    def task(self, number: int) -> Task:
        (task,) = self.store.tasks([number])
        return task

    def state(self, number: int) -> State:
        return self.task(number).state

    def check(self) -> Contents:
        """All that must hold after any turn, by what is stored and by what the engine remembers of it."""
        found = self.contents()
        settling = [target for kind, target in found.cursors if kind is CursorKind.SETTLE]
        going = {target for kind, target in found.cursors if kind is CursorKind.DISCARD}  # in pieces; nothing counts
        going |= {number for number, flow in found.flows.items() if flow.deleted}
        flows = {number: flow for number, flow in found.flows.items() if number not in going}
        tasks = {number: task for number, task in found.tasks.items() if task.flow not in going}
        edges = [edge for edge in found.edges if edge[1] in tasks and edge[0] in found.tasks]
        parents = {edge[0] for edge in edges} - tasks.keys()
        assert all(found.tasks[number].state.terminal for number in parents), "a parent that was deleted had ended"
        deleted = {number: found.tasks[number] for number in parents}
        edges = [edge for edge in edges if edge[0] not in deleted]
        assert violations(tasks, flows, edges, found.results.keys() - found.going, settling) == []
        assert found.counters == found.counted()
        numbers = [event.first for event in found.events]
        assert numbers[1:] == [event.last + 1 for event in found.events][:-1], "a gap in the events"
        assert numbers[:1] in ([], [1]) or self.rules.keep_events, "events are gone"
        attempts: dict[int, int] = {}
        for number, _ in found.attempts:
            attempts[number] = attempts.get(number, 0) + 1
        assert attempts == {number: task.attempts for number, task in found.tasks.items() if task.attempts}
        assert set(found.bodies) == set(found.tasks)
        self._check_memory(found)
        return found

    def _check_memory(self, found: Contents) -> None:
        memory = self.engine._memory
        running = {number for number, task in found.tasks.items() if task.state is State.RUNNING}
        assert set(memory.running) == running
        assert set(memory.cursors) == set(found.cursors)
        in_flight: dict[str, int] = {}
        for number in running:
            bucket = memory.lanes[found.tasks[number].lane].key.bucket
            if bucket is not None:
                in_flight[bucket] = in_flight.get(bucket, 0) + 1
        assert {name: b.in_flight for name, b in memory.buckets.items() if b.in_flight} == in_flight
        if self.engine._inbox.empty() and not self.engine._left:
            handed = {name: {order.task for order in slot.handed} for name, slot in self.executor.slots.items()}
            assert {name: set(slot.tasks) for name, slot in memory.slots.items()} == handed


def ask(rig: Rig, kind: type, *refs: object, **how: object) -> Answer:
    """A person asks for something about tasks and flows."""
    answer = Answer()
    rig.post(kind(answer, parse_all(list(refs)), **how))
    rig.run()
    return answer


def words(rig: Rig) -> list[str]:
    """The states of all tasks, by number."""
    return [task.state.word for _, task in sorted(rig.check().tasks.items())]


def set_queue(rig: Rig, queue: str = "default", **change: object) -> dict[str, object]:
    answer = Answer()
    rig.post(SetQueue(answer, queue, change))
    rig.run()
    return answer.body
