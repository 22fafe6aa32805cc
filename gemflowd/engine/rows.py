"""Rows of a turn: each row once, whoever asks for it, and never without its flow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gemflowd.core.turn import Turn
from gemflowd.engine.memory import Memory
from gemflowd.model.errors import Refused
from gemflowd.model.facts import Speaker
from gemflowd.model.refs import FlowRef, NamedTask, Ref, TaskRange
from gemflowd.model.states import State
from gemflowd.model.task import Flow, Task
from gemflowd.store.base import Store

#: More tasks than this by number in one request: name the flow instead.
MOST_REFERENCED = 2_000
_TOO_MANY = f"at most {MOST_REFERENCED} tasks and flows by number; name the flow instead of its tasks"


def stale(task: int, path: str | None = None) -> Refused:
    """For who asks for something as an attempt that is not the live one of its task. `path`: of the field that says so."""
    return Refused("stale_attempt", f"task {task} does not run with that token (any more)", path)


class Rows:
    """Loads rows into the turn. A row that the turn or the engine has already is not read again."""

    def __init__(self, turn: Turn, store: Store, memory: Memory) -> None:
        self.turn = turn
        self.store = store
        self.memory = memory

    def adopt(self, tasks: Iterable[Task]) -> list[Task]:
        """Rows as the store has them, replaced by the turn's own where it has changed them already."""
        mine, running = self.turn.tasks, self.memory.running
        found = []
        for row in tasks:
            task = mine.get(row.number)
            if task is None:
                task = mine[row.number] = running.get(row.number, row)
            found.append(task)
        self.need_flows({task.flow for task in found})
        return found

    def tasks(self, numbers: Sequence[int]) -> dict[int, Task]:
        """The tasks of these numbers that exist."""
        mine, running = self.turn.tasks, self.memory.running
        missing = []
        for number in numbers:
            if number not in mine:
                task = running.get(number)
                if task is None:
                    missing.append(number)
                else:
                    mine[number] = task
        if missing:
            for task in self.store.tasks(missing):
                mine[task.number] = task
        found = {number: mine[number] for number in numbers if number in mine}
        self.need_flows({task.flow for task in found.values()})
        return found

    def speaking(self, speaker: Speaker) -> Task:
        """The task whose live attempt asks for something.

        Raises:
            Refused: `stale_attempt`.
        """
        task = self.tasks([speaker.task]).get(speaker.task)
        if task is None or task.state is not State.RUNNING or task.token != speaker.token:
            raise stale(speaker.task)
        return task

    def need_flows(self, numbers: set[int]) -> None:
        missing = []
        for number in numbers - self.turn.flows.keys():
            flow = self.memory.flows.get(number)
            if flow is None:
                missing.append(number)
            else:
                self.turn.flows[number] = flow
        if missing:
            for flow in self.store.flows(missing):
                self.turn.flows[flow.number] = flow
                self.memory.remember_flow(flow)

    def flow(self, number: int) -> Flow | None:
        self.need_flows({number})
        return self.turn.flows.get(number)

    def named(self, flow: int, ids: Sequence[str]) -> dict[str, Task]:
        """Tasks of a flow by their ids, those of this turn included."""
        wanted = set(ids)
        found = {
            task.id: task for task, _ in self.turn.new_tasks if task.flow == flow and task.id in wanted and task.id
        }
        missing = [name for name in ids if name not in found]
        if missing:
            stored = self.store.tasks_by_id(flow, missing)
            self.adopt(stored.values())
            found.update({name: self.turn.tasks[task.number] for name, task in stored.items()})
        return found

    def resolve(self, refs: Sequence[Ref]) -> tuple[list[Task], list[Flow]]:
        """The tasks and flows that references name.

        Raises:
            Refused: `not_found`, or `invalid_value` for a range that is too wide.
        """
        tasks: dict[int, Task] = {}
        flows: list[Flow] = []
        for index, ref in enumerate(refs):
            path = f"refs[{index}]"
            if isinstance(ref, FlowRef):
                flow = self.flow(ref.number)
                if flow is None or flow.deleted:
                    raise Refused("not_found", f"there is no flow f{ref.number}", path)
                flows.append(flow)
            elif isinstance(ref, NamedTask):
                named = self._visible({task.number: task for task in self.named(ref.flow, [ref.id]).values()})
                if not named:
                    raise Refused("not_found", f"there is no task f{ref.flow}/{ref.id}", path)
                tasks.update((task.number, task) for task in named.values())
            else:
                tasks.update(self._range(ref, path))
            if len(tasks) + len(flows) > MOST_REFERENCED:
                raise Refused("invalid_value", _TOO_MANY, path)
        return list(tasks.values()), flows

    def _visible(self, tasks: dict[int, Task]) -> dict[int, Task]:
        """Those whose flow is not being deleted."""
        return {number: task for number, task in tasks.items() if not self.turn.flows[task.flow].deleted}

    def _range(self, ref: TaskRange, path: str) -> dict[int, Task]:
        last = min(ref.last, self.memory.next_task - 1)
        if last - ref.first >= MOST_REFERENCED:
            raise Refused("invalid_value", _TOO_MANY, path)
        found = self._visible(self.tasks(range(ref.first, last + 1)))
        if not found:
            raise Refused(
                "not_found", f"there is no task {ref.first}" + (f" to {ref.last}" if ref.last > ref.first else ""), path
            )
        return found
