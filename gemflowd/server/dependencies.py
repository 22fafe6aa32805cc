"""What the tasks of a request wait for: read, looked up where there are very many, and no circle."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final

from gemflowd.core.graph import find_cycle
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import NewDependency, NewTask, TaskNumber
from gemflowd.model.ids import MAX_NUMBER, is_task_id
from gemflowd.model.refs import NamedTask
from gemflowd.model.states import On
from gemflowd.protocol import messages
from gemflowd.protocol.messages import read
from gemflowd.server.desk import Desk

#: Dependencies that are read before others get their turn on the loop: about 2 ms.
_DEPENDENCIES: Final = 1_000
_ON: Final = {on.word: on for on in On}


def task_id(value: int | str, path: str) -> str:
    text = str(value)
    if not is_task_id(text):
        raise Invalid("invalid_value", "an id has 1 to 128 letters, digits, '_', '.' or '-', or is an integer", path)
    return text


async def read_dependencies(values: list[Any], path: str, places: dict[str, int]) -> tuple[NewDependency, ...]:
    found: list[NewDependency] = []
    for index, value in enumerate(values):
        found.append(_dependency(value, f"{path}[{index}]", places))
        if index % _DEPENDENCIES == _DEPENDENCIES - 1:
            await asyncio.sleep(0)
    _no_repeats(found)
    return tuple(found)


def _dependency(value: object, path: str, places: dict[str, int]) -> NewDependency:
    if isinstance(value, int | str) and not isinstance(value, bool):
        name = task_id(value, path)
        return NewDependency(places.get(name, name), On.SUCCESS, path)
    dep = read(messages.Dep, value, path)
    on = _ON.get(dep.on)
    if on is None:
        raise Invalid("invalid_value", f"must be one of {', '.join(_ON)}", f"{path}.on")
    if dep.number is not None:
        if dep.id is not None or dep.flow is not None:
            raise Invalid("invalid_value", "give a number, or an id (of a flow)", path)
        if not 0 < dep.number <= MAX_NUMBER:
            raise Invalid("invalid_value", "must be a task's number", f"{path}.number")
        return NewDependency(TaskNumber(dep.number), on, path)
    if dep.id is None:
        raise Invalid("missing_field", "the field `id` or `number` is required", f"{path}.id")
    name = task_id(dep.id, f"{path}.id")
    if dep.flow is not None:
        if not 0 < dep.flow <= MAX_NUMBER:
            raise Invalid("invalid_value", "must be a flow's number", f"{path}.flow")
        return NewDependency(NamedTask(dep.flow, name), on, path)
    return NewDependency(places.get(name, name), on, path)


def _no_repeats(deps: list[NewDependency]) -> None:
    seen = set()
    for dep in deps:
        if dep.target in seen:
            raise Invalid("invalid_value", "this dependency is there twice", dep.path)
        seen.add(dep.target)


async def looked_up(desk: Desk, request: messages.Submit, tasks: list[NewTask]) -> list[NewTask]:
    """The tasks with every dependency as a place in this request or as a task's number.

    The engine does not look for names when there are very many: it would hold everything up meanwhile.
    """
    names, elsewhere, numbers = set(), set(), set()
    for target in (dependency.target for task in tasks for dependency in task.deps):
        if isinstance(target, str):
            names.add(target)
        elif isinstance(target, NamedTask):
            elsewhere.add((target.flow, target.id))
        elif isinstance(target, TaskNumber):
            numbers.add(target.number)
    grow = None if request.grow is None else request.grow.task
    found = await desk.ask(desk.questions.locate, request.submission, grow, list(names), list(elsewhere), list(numbers))
    known: dict[Any, int] = {
        **found["names"],
        **{NamedTask(flow, name): number for (flow, name), number in found["elsewhere"].items()},
        **{TaskNumber(number): number for number in found["numbers"]},
    }
    looked_up = []
    edges = 0
    for task in tasks:
        deps = []
        for dependency in task.deps:
            target = dependency.target
            if not isinstance(target, int):
                number = known.get(target)
                if number is None:
                    message = "there is no such task (a dependency must be in the same or an earlier chunk)"
                    raise Invalid("unknown_dependency", message, dependency.path)
                target = TaskNumber(number)
            deps.append(NewDependency(target, dependency.on, dependency.path))
            edges += 1
            if edges % _DEPENDENCIES == 0:
                await asyncio.sleep(0)
        looked_up.append(replace(task, deps=tuple(deps)))
    return looked_up


async def check_cycles(tasks: list[NewTask], shapes: list[messages.Task]) -> None:
    if not any(task.deps for task in tasks):
        return
    parents = [[d.target for d in task.deps if isinstance(d.target, int)] for task in tasks]
    for found in find_cycle(parents):
        if found:
            names = [str(shapes[index].id) for index in [*found, found[0]]]
            shown = " → ".join(names if len(names) <= 10 else [*names[:9], "…"])
            raise Invalid("cycle", f"these tasks wait for each other: {shown}", f"tasks[{found[0]}].deps")
        await asyncio.sleep(0)
