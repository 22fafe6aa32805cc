"""Histories of the queue, step by step: submissions, outcomes, people, crashes and failing disks, in any order.

After every step all invariants of docs/architecture.md hold, by what is stored, by what the engine remembers and by an
independent model; at the end of every history all tasks come to an end. The figures that bound a turn are made tiny, so
that cursors and windows are used by queues of a few dozen tasks. Who decides what happens: tests/property.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from helpers.queue_model import QueueModel
from helpers.rig import InMemory, OnDisk, Rig
from helpers.tasks import Answer, dep, new, submission

from gemflowd.core import lanes
from gemflowd.core.turn import CursorKind
from gemflowd.engine import critical_path, cursors, deadlines, dispatch, engine, links, retrying
from gemflowd.engine import submission as engine_submission
from gemflowd.model.attempt import Ended, Kind, Outcome
from gemflowd.model.effects import Effects
from gemflowd.model.errors import StoreFull
from gemflowd.model.facts import (
    AttemptsEnded,
    Cancel,
    ClockSet,
    Configure,
    Delete,
    Devices,
    Discard,
    Drain,
    Edit,
    Grow,
    Hold,
    NewDependency,
    NewTask,
    Release,
    Retry,
    SetQueue,
    TakenBack,
    TaskNumber,
)
from gemflowd.model.lane import amounts
from gemflowd.model.refs import FlowRef, NamedTask, Ref, TaskRange
from gemflowd.model.rules import Rules
from gemflowd.model.states import FlowState, On, State
from gemflowd.model.task import Ordering, Task

Shape = dict[str, Any]


RETRIES = (CursorKind.RETRY, CursorKind.RETRY_TASK)


class Injected(Exception):
    """A defect that is not one."""


@dataclass
class Sent:
    """A submission as its client remembers it."""

    uuid: str
    weight: float
    tasks: list[NewTask] = field(default_factory=list)  # acknowledged
    chunks: list[tuple[list[NewTask], int, bool, int]] = field(default_factory=list)  # tasks, offset, complete, first
    flow: int = 0
    numbers: list[int] = field(default_factory=list)
    complete: bool = False
    may_vanish: bool = False  # a discard or delete was asked for, or a chunk was refused
    stream: bool = False
    critical_path: bool = False


@dataclass
class Asked:
    """A request without a reply yet."""

    sent: Sent
    tasks: list[NewTask]
    offset: int
    complete: bool
    answer: Answer


class History:
    """A queue and all who have to do with it. Each method is something that may happen, and asserts what may come of it."""

    def __init__(self, backing: InMemory | OnDisk | None = None) -> None:
        self.patches = [
            mock.patch.multiple(engine, TURN_ROWS=12, _FULL_PAUSE=0.0),
            mock.patch.object(deadlines, "_MOST", 12),
            mock.patch.object(dispatch, "WINDOW", 2),
            mock.patch.object(lanes, "WINDOW", 2),
            mock.patch.multiple(cursors, STEP=3, _REMOVED=2, TURN_SHARE=3),
            mock.patch.object(links, "_PIECE", 2),
            mock.patch.multiple(critical_path, _PIECE=2, _A_ROW=1),
            mock.patch.multiple(retrying, MOST_EDGES=2, _EXAMINED=2, _WAITED_FOR=2, A_ROW=1),
            mock.patch.object(engine_submission, "MOST_EDGES", 8),
            mock.patch.object(engine.log, "disabled", True),
        ]
        for patch in self.patches:
            patch.start()
        rules = Rules(
            backoff=2.0, crash_limit=2, lost_limit=3, resources={"gpu": 2.0}, open_expires=1e9, max_growth_tasks=20
        )
        self.rig = Rig(backing, rules, seed=1)
        self.model = QueueModel()
        self.sent: list[Sent] = []
        self.asked: list[Asked] = []
        self.serial = 0
        self.retrying = False
        self.eager = 0  # after so many requests the engine goes on by itself; 0: never
        self.requests = 0
        self.devices: tuple[str, ...] = ()
        self.going_on: set[tuple[CursorKind, int]] = set()
        self.tokens: dict[int, int] = {}
        self.last_delivered = 0
        self.rig.listeners.append(self.delivered)
        self.rig.executor.add(Kind.BLOCKING)
        self.rig.executor.add(Kind.COROUTINE, 3)

    def begin(self, eager: int, shapes: list[Shape], complete: bool, devices: tuple[str, ...] = ()) -> None:
        self.eager = eager
        self.devices = devices
        self.rig.post(Devices(devices))
        self.submit(shapes, complete, 1.0)
        self.go_on(None)

    # Turns

    def after(self) -> None:
        """Something was asked for or reported."""
        self.requests += 1
        if self.eager and self.requests % self.eager == 0:
            self.go_on(None)

    def turns(self, count: int | None = 1) -> None:
        """Some turns; None: until the engine sleeps. A turn with nothing to blame ends the daemon."""
        try:
            done = 0
            while not self.rig.would_sleep() and (count is None or done < count):
                self.rig.turn()
                done += 1
                assert done < 500, "the engine does not come to rest"
        except Injected:
            self.reborn(self.rig.crash)

    def delivered(self, effects: Effects) -> None:
        found = self.rig.contents()
        self.acknowledge()
        going = {*found.cursors, *self.going_on}
        self.model.follow(found, self.retrying or any(kind in RETRIES for kind, _ in going))
        self.going_on = set(found.cursors)
        for start in effects.starts:
            assert start.token > self.tokens.get(start.task, 0), "a token is never given twice"
            self.tokens[start.task] = start.token
        if not self.rig.engine._rules.enabled and effects.starts:
            assert effects.running == 1
        self.judge_order(effects, found.tasks)
        for start in effects.starts:
            assert found.flows[start.flow].ordering == Ordering.NONE, "it is not in order yet"
        if effects.events is not None:
            assert effects.events.first + len(effects.events.events) - 1 == self.model.last_event

    def judge_order(self, effects: Effects, tasks: dict[int, Task]) -> None:
        """Within a lane what started comes before what is still ready, and in order."""
        memory = self.rig.engine._memory
        started: dict[int, list[tuple[float, ...]]] = {}
        for start in effects.starts:
            task = tasks[start.task]
            assert memory.lanes[task.lane].open
            started.setdefault(task.lane, []).append((-task.urgency, task.tag, task.number))
        for lane, keys in started.items():
            assert keys == sorted(keys)
            left = [(-t.urgency, t.tag, t.number) for t in tasks.values() if t.lane == lane and t.state is State.READY]
            assert not left or keys[-1] < min(left)

    def acknowledge(self) -> None:
        """Read the replies that have come."""
        for asked in [asked for asked in self.asked if asked.answer.given]:
            self.asked.remove(asked)
            sent = asked.sent
            if asked.answer.code is not None:
                if asked.answer.code in ("unknown_dependency", "duplicate_id", "invalid_value") and not sent.stream:
                    sent.may_vanish = True
                continue
            body = asked.answer.body
            assert sent.flow in (0, body["flow"])
            sent.flow = body["flow"]
            assert body["count"] == len(asked.tasks)
            chunk = (asked.tasks, asked.offset, asked.complete, body["first"] or 0)
            if body["repeated"] and any(known[1:3] == chunk[1:3] and known[0] == chunk[0] for known in sent.chunks):
                assert chunk in sent.chunks
                continue
            assert asked.offset == len(sent.tasks), "a chunk was taken out of order"
            sent.chunks.append(chunk)
            sent.complete = sent.complete or asked.complete
            numbers = [chunk[3] + index for index in range(len(asked.tasks))]
            sent.tasks += asked.tasks
            sent.numbers += numbers
            for number, task in zip(numbers, asked.tasks, strict=True):
                deps = [(self.parent(sent, chunk[3], d.target), d.on.word) for d in task.deps]
                self.model.known(number, deps, of_its_own=task.when is not None or task.expires_in is not None)

    def parent(self, sent: Sent, first: int, target: int | str | NamedTask | TaskNumber) -> int:
        if isinstance(target, int):
            return first + target
        if isinstance(target, TaskNumber):
            return target.number
        if isinstance(target, NamedTask):
            (sent,) = [other for other in self.sent if other.flow == target.flow]
            target = target.id
        (place,) = [place for place, task in enumerate(sent.tasks) if task.id == target]
        return sent.numbers[place]

    def reborn(self, how: Callable[[], None]) -> None:
        """The daemon ends in some way; a client asks again for what it has no reply to."""
        how()
        self.retrying = False
        self.acknowledge()
        self.rig.post(Devices(self.devices))
        self.rig.executor.add(Kind.BLOCKING)
        self.rig.executor.add(Kind.COROUTINE, 3)
        again, self.asked = self.asked, []
        self.model.follow(self.rig.contents(), True)
        for asked in again:
            external = any(isinstance(d.target, TaskNumber | NamedTask) for task in asked.tasks for d in task.deps)
            if external and (asked.sent.flow == 0 or self.going(asked.sent)):
                asked.sent.may_vanish = True  # that chunk was refused, and nobody heard of it
            if not asked.sent.may_vanish:
                self.ask(asked.sent, asked.tasks, asked.offset, asked.complete)

    def going(self, sent: Sent) -> bool:
        """Whether its flow is gone or being removed."""
        found = self.rig.contents()
        return sent.flow not in found.flows or (CursorKind.DISCARD, sent.flow) in found.cursors

    # What clients do

    def ask(self, sent: Sent, tasks: list[NewTask], offset: int, complete: bool) -> None:
        answer = Answer()
        self.asked.append(Asked(sent, tasks, offset, complete, answer))
        fact = submission(
            answer, sent.uuid, tasks, offset=offset, complete=complete, weight=sent.weight,
            stream=sent.stream, critical_path=sent.critical_path,
        )  # fmt: skip
        self.rig.post(fact)

    def build(self, shapes: list[Shape], sent: Sent) -> list[NewTask]:
        """Tasks of those shapes; a dependency is on an earlier one of the chunk, of the flow, or elsewhere."""
        tasks: list[NewTask] = []
        for place, shape in enumerate(shapes):
            self.serial += 1
            targets: list = list(range(place))
            targets += [task.id for task in sent.tasks if task.id is not None]
            for other in self.sent:
                if other is not sent and other.flow:
                    targets += [TaskNumber(number) for number in other.numbers]
                    targets += [NamedTask(other.flow, task.id) for task in other.tasks if task.id is not None]
            deps = {}
            for pick, on in shape["deps"]:
                if targets:
                    target = targets[pick % len(targets)]
                    deps.setdefault(self.identity(sent, target), dep(target, on))
            if not deps or not shape.get("when"):
                shape = {**shape, "when": None}
            if sum(len(task.deps) for task in tasks) + len(deps) > 8:  # many: the server has looked the names up
                tasks = [replace(task, deps=tuple(self.by_number(sent, d) for d in task.deps)) for task in tasks]
                deps = {key: self.by_number(sent, d) for key, d in deps.items()}
            fields = {key: value for key, value in shape.items() if key not in ("deps", "delay")}
            due = None if shape["delay"] is None else self.rig.clock.now + shape["delay"]
            name = None if self.serial % 3 == 0 else f"t{self.serial}"
            tasks.append(new(name, *deps.values(), due=due, **fields))
        return tasks

    def identity(self, sent: Sent, target: object) -> object:
        """The same task by another name is the same dependency."""
        return ("here", target) if isinstance(target, int) else self.parent(sent, 0, target)

    def by_number(self, sent: Sent, dependency: NewDependency) -> NewDependency:
        if isinstance(dependency.target, int | TaskNumber):
            return dependency
        return dep(TaskNumber(self.parent(sent, 0, dependency.target)), dependency.on)

    def grow(self, pick: int, count: int, step: bool, wrong: int) -> None:
        """A running attempt adds tasks to its flow, the first of which is its continuation, or awaited by its own next attempt."""
        running = self.rig.executor.running()
        if not running:
            return
        order = running[pick % len(running)]
        awaits = tuple(range(0, count, 2)) if pick % 2 else ()  # of those its next attempt awaits some
        after = () if awaits else (dep(TaskNumber(order.task), On.DONE),)
        tasks = [new(None, *after), *(new() for _ in range(count - 1))]
        self.serial += 1
        fact = submission(Answer(), f"grow{self.serial}", tasks)
        fact.grow = Grow(order.task, order.token + wrong, "plan" if step else None, awaits)
        answer = fact.reply
        assert isinstance(answer, Answer)
        self.rig.post(fact)
        self.turns(None)
        if answer.given and answer.code is not None:
            assert answer.code in ("stale_attempt", "growth_limit", "conflict"), answer.code
        elif answer.given:
            assert not wrong
            assert answer.body["flow"] == order.flow

    def submit(
        self, shapes: list[Shape], complete: bool, weight: float, stream: bool = False, critical_path: bool = False
    ) -> None:
        sent = Sent(f"uuid{len(self.sent)}", weight, stream=stream, critical_path=critical_path and not stream)
        tasks = self.build(shapes, sent)
        self.sent.append(sent)
        self.ask(sent, tasks, 0, complete)
        self.after()

    def next_chunk(self, shapes: list[Shape], pick: int, complete: bool, wrong: int, empty: bool) -> None:
        waiting = {id(asked.sent) for asked in self.asked}
        open_ones = [s for s in self.sent if s.flow and not s.complete and id(s) not in waiting]
        if open_ones:
            sent = open_ones[pick % len(open_ones)]
            tasks = self.build(shapes, sent) if not (empty and complete) else []
            offset = max(1, len(sent.tasks) + wrong)  # at 0 a discarded submission would begin anew
            self.ask(sent, tasks, offset, complete)
        self.after()

    def repeat(self, pick: int, which: int, other: bool) -> None:
        """The same chunk again, as a client does that saw no reply; or other content under the same UUID."""
        known = [sent for sent in self.sent if sent.chunks and not sent.may_vanish]
        if known:
            sent = known[pick % len(known)]
            tasks, offset, complete, _ = sent.chunks[which % len(sent.chunks)]
            if not other:
                self.ask(sent, tasks, offset, complete)
            elif tasks:
                answer = Answer()
                changed = [replace(tasks[0], body=b"other"), *tasks[1:]]
                self.rig.post(submission(answer, sent.uuid, changed, offset=offset, complete=complete))
                self.turns(None)
                if answer.given and not sent.may_vanish:
                    assert answer.code == "submission_reused"

    def bad_chunk(self, pick: int, unknown: bool) -> None:
        """Refused for its content: the whole flow goes."""
        open_ones = [s for s in self.sent if s.flow and not s.complete]
        if open_ones:
            sent = open_ones[pick % len(open_ones)]
            sent.may_vanish = not sent.stream
            names = [task.id for task in sent.tasks if task.id is not None]
            if unknown or not names:
                tasks = [new(None, dep("nobody"))]
            else:
                tasks = [new(names[0])]
            self.ask(sent, tasks, len(sent.tasks), True)
        self.after()

    def discard(self, pick: int) -> None:
        if self.sent:
            sent = self.sent[pick % len(self.sent)]
            sent.may_vanish = sent.may_vanish or not (sent.complete or sent.stream)
            self.rig.post(Discard(Answer(), sent.uuid))
        self.after()

    # What people do

    def refs(self, pick: int, how: int) -> list[Ref]:
        numbers = [number for sent in self.sent for number in sent.numbers]
        flows = [sent for sent in self.sent if sent.flow]
        if not numbers:
            return []
        number = numbers[pick % len(numbers)]
        if how == 0:
            return [TaskRange(number, number)]
        if how == 1:
            return [TaskRange(number, number + 4)]
        sent = flows[pick % len(flows)]
        named = [task.id for task in sent.tasks if task.id is not None]
        if how == 2 and named:
            return [NamedTask(sent.flow, named[pick % len(named)])]
        return [FlowRef(sent.flow)]

    def cancel(self, pick: int, how: int) -> None:
        refs = self.refs(pick, how)
        answer = Answer()
        if refs:
            self.rig.post(Cancel(answer, refs))
        for sent in self.sent:
            if FlowRef(sent.flow) in refs and not sent.complete:
                sent.may_vanish = sent.may_vanish or not sent.stream
                if sent.stream:
                    self.turns(None)
                    sent.complete = answer.given and answer.code is None
        self.after()

    def retry(self, pick: int, how: int, downstream: bool) -> None:
        refs = self.refs(pick, how)
        if refs:
            self.retrying = True
            self.rig.post(Retry(Answer(), refs, downstream))
        self.after()

    def hold(self, pick: int, how: int) -> None:
        refs = self.refs(pick, how)
        if refs:
            self.rig.post(Hold(Answer(), refs))
        self.after()

    def release(self, pick: int, how: int) -> None:
        refs = self.refs(pick, how)
        if refs:
            self.rig.post(Release(Answer(), refs))
        self.after()

    def edit(self, pick: int, how: int, priority: int) -> None:
        refs = self.refs(pick, how)
        if refs:
            self.rig.post(Edit(Answer(), refs, priority))
        self.after()

    def delete(self, pick: int) -> None:
        """A flow that may be deleted is gone at once for whoever asks."""
        flows = [sent for sent in self.sent if sent.flow]
        if not flows:
            return
        sent = flows[pick % len(flows)]
        sent.may_vanish = True
        answer = Answer()
        self.rig.post(Delete(answer, [FlowRef(sent.flow)]))
        self.turns(None)
        if answer.given and answer.code is not None:
            assert answer.code in ("conflict", "not_found")
        self.after()

    def set_queue(self, queue: str, paused: bool, most: int | None) -> None:
        self.rig.post(SetQueue(Answer(), queue, {"paused": paused, "most": most}))
        self.turns(None)
        if not paused and most is not None:
            return

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.rig.clock.jump(seconds)
        self.rig.post(ClockSet())
        self.after()

    def configure(self, fair: bool, enabled: bool) -> None:
        rules = replace(self.rig.rules, fair=fair, enabled=enabled)
        self.rig.rules = rules
        if not enabled:
            self.turns(None)
            self.end_all(Outcome.DONE)
        self.rig.post(Configure(Answer(), {"fair": fair}, rules))

    # What the executor does

    def end(self, pick: int, outcome: Outcome, seconds: float, retry_after: float | None) -> None:
        running = self.rig.executor.running()
        if running:
            order = running[pick % len(running)]
            after = retry_after if outcome is Outcome.RATE_LIMITED else None
            self.rig.executor.end(order, outcome, seconds=seconds, retry_after=after)
        self.after()

    def end_several(self, dice: int, seconds: float) -> None:
        """In one report; attempts that were handed over to one slot end in their order."""
        rng = random.Random(dice)
        outcomes = [Outcome.DONE, Outcome.ERROR]
        ended = [
            self.rig.executor.ended(order, rng.choice(outcomes), seconds)
            for slot in self.rig.executor.slots.values()
            for order in slot.handed[: rng.randint(0, len(slot.handed))]
        ]
        self.rig.post(AttemptsEnded(ended))
        self.after()

    def work(self, dice: int, rounds: int, good: bool) -> None:
        """The daemon at its work for a while: attempts end, others start, time goes by."""
        rng = random.Random(dice)
        bad = [outcome for outcome in Outcome if outcome is not Outcome.CANCELLED]
        for _ in range(rounds):
            running = self.rig.executor.running()
            if running:
                outcome = Outcome.DONE if good or rng.random() < 0.6 else rng.choice(bad)
                seconds = rng.choice([0.0001, 0.001, 1.0])
                self.rig.executor.end(rng.choice(running), outcome, seconds=seconds, retry_after=3.0)
            self.rig.clock.now += rng.choice([0.0, 0.0, 0.5, 5.0])
            self.go_on(None)

    def obey_cancel(self) -> None:
        executor = self.rig.executor
        for order in executor.running():
            if (order.task, order.token) in executor.asked:
                executor.end(order, Outcome.CANCELLED)
        self.after()

    def late(self, pick: int, outcome: Outcome, wrong: int, back: bool) -> None:
        """Twice, or of an attempt that is not the live one: changes nothing."""
        past = [*self.rig.executor.past, (10_000, 1)]
        task, token = past[pick % len(past)]
        live = {(order.task, order.token) for order in self.rig.executor.handed()}
        if (task, token + wrong) in live:
            return
        if back:
            self.rig.post(TakenBack([(task, token + wrong)]))
        else:
            self.rig.post(AttemptsEnded([Ended(task, token + wrong, outcome, b"late", 0.5)]))

    def take_back(self, pick: int, keep: int) -> None:
        names = list(self.rig.executor.slots)
        if names:
            self.rig.executor.take_back(names[pick % len(names)], keep)
        self.after()

    def lose_slot(self, pick: int, how: str) -> None:
        executor = self.rig.executor
        names = list(executor.slots)
        if names:
            name = names[pick % len(names)]
            slot = executor.slots[name]
            if how == "stop":
                executor.stop(name)
            else:
                executor.kill(name, innocent=how == "innocent")
            executor.add(slot.kind, slot.size)
        self.after()

    def add_slot(self, kind: Kind, size: int) -> None:
        self.rig.executor.add(kind, size if kind is Kind.COROUTINE else 1)
        self.after()

    # Time, crashes, failing disks

    def turn(self, count: int | None) -> None:
        self.go_on(count)

    def go_on(self, count: int | None) -> None:
        self.turns(count)
        if self.rig.engine._inbox.empty() and not self.rig.engine._left:
            self.retrying = False

    def wait(self, seconds: float) -> None:
        self.rig.clock.now += seconds
        self.after()

    def restart(self, how: str) -> None:
        """The daemon ends: as it should, at once, or with a turn committed of which nobody hears: no reply, no start."""
        rig = self.rig
        if how == "drain":
            self.drain()
        elif how != "untold":
            self.reborn(rig.stop if how == "stop" else rig.crash)
        elif not rig.would_sleep():
            deliver, rig.engine._deliver = rig.engine._deliver, lambda effects: None
            try:
                rig.engine.turn(rig.engine._take())
            except Injected:
                pass
            rig.engine._deliver = deliver
            self.reborn(rig.crash)

    def drain(self) -> None:
        """The daemon is to leave: it starts nothing more and takes nothing more."""
        self.turns(None)
        started, answer = len(self.rig.executor.started), Answer()
        self.rig.post(Drain(), submission(answer, "too late", [new()]))
        self.turns(None)
        if answer.given:
            assert answer.code == "draining"
            assert len(self.rig.executor.started) == started
        self.reborn(self.rig.stop)

    def failing_store(self, verb: str, full: bool) -> None:
        self.rig.store.fail = (verb, StoreFull("full") if full else Injected())
        self.turns()
        self.rig.store.fail = None

    # What holds after every step

    def all_holds(self) -> None:
        found = self.rig.check()
        self.model.compare(found)
        for asked in self.asked:
            if asked.sent.flow and self.going(asked.sent):
                asked.sent.may_vanish = True  # that chunk was refused; the client hears of it when all is gone
        for sent in self.sent:
            if sent.flow and not sent.may_vanish:
                flow = found.flows[sent.flow]
                assert flow.submission == sent.uuid
                assert flow.received >= len(sent.tasks)
                assert all(number in found.tasks for number in sent.numbers)
                if sent.complete and self.rig.engine._inbox.empty():
                    assert flow.state != FlowState.OPEN
        queues = self.rig.engine._memory.queues
        running: dict[str, int] = {}
        for task in found.tasks.values():
            if task.state is State.RUNNING:
                name = found.queues[task.lane]
                running[name] = running.get(name, 0) + 1
        assert {name: queue.running for name, queue in queues.items() if queue.running} == {
            name: count for name, count in running.items() if name in queues
        }
        needs = {
            number: sum(amount for _, amount in amounts(self.rig.engine._memory.lanes[task.lane].key.resources))
            for number, task in found.tasks.items()
            if task.state is State.RUNNING
        }
        assert sum(needs.values()) <= 2, "more of a resource is in use than there is"
        self.judge_devices(needs)
        assert self.rig.engine._memory.queued_bytes == sum(
            task.size for task in found.tasks.values() if not task.state.terminal
        )
        succeeded = {number for number, task in found.tasks.items() if task.state is State.SUCCEEDED}
        assert set(found.results) == succeeded
        for number, value in found.results.items():
            assert value != b"late"
            assert value.startswith(b"%d:" % number)

    def judge_devices(self, needs: dict[int, float]) -> None:
        """Who runs has what it asked for, of devices that are there, and nobody else has it."""
        if not self.rig.engine._inbox.empty() or self.rig.engine._left:
            return
        used = dict.fromkeys(self.devices, 0.0)
        for order in self.rig.executor.handed():
            need = needs[order.task]
            assert len(order.devices) == (math.ceil(need) if self.devices else 0)
            for name in order.devices:
                used[name] += min(need, 1.0)
        assert all(share <= 1.0 for share in used.values()), used
        assert self.rig.engine._memory.devices.free_shares() == {name: 1.0 - share for name, share in used.items()}

    # And at the end everything ends

    def end_all(self, outcome: Outcome) -> None:
        while self.rig.executor.running():
            for order in self.rig.executor.running():
                self.rig.executor.end(order, outcome)
            self.turns(None)

    def close(self) -> None:
        try:
            self.come_to_an_end()
        finally:
            self.give_up()

    def give_up(self) -> None:
        for patch in self.patches:
            patch.stop()
        self.rig.store.close()

    def come_to_an_end(self) -> None:
        self.turns(None)
        for queue in ("default", "night"):
            self.rig.post(SetQueue(Answer(), queue, {"paused": False, "most": None}))
        self.turns(None)
        for sent in self.sent:
            if sent.flow and not sent.complete and not sent.may_vanish:
                self.ask(sent, [], len(sent.tasks), True)
        for name in list(self.rig.executor.slots):
            self.rig.executor.stop(name)
        self.end_all(Outcome.DONE)
        for name in list(self.rig.executor.slots):
            self.rig.executor.kill(name)
        self.rig.executor.add(Kind.BLOCKING)
        self.rig.executor.add(Kind.COROUTINE, 3)
        for _ in range(1_000):
            self.turns(None)
            if self.rig.executor.running():
                self.end_all(Outcome.DONE)
                continue
            held = [number for number, task in self.rig.contents().tasks.items() if task.state is State.HELD]
            if held:
                flows = {task.flow for task in self.rig.contents().tasks.values() if task.state is State.HELD}
                self.rig.post(Release(Answer(), [FlowRef(flow) for flow in flows]))
                continue
            patience = self.rig.engine._patience()
            if patience is None:
                break
            self.rig.clock.now += patience
        self.all_holds()
        assert not self.asked, "a client waits for ever"
        found = self.rig.contents()
        left = [
            task
            for task in found.tasks.values()
            if not task.state.terminal and found.flows[task.flow].state != FlowState.OPEN
        ]
        assert not left, left
        assert not found.cursors
