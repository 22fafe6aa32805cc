"""References to tasks and flows, as people write them: `42`, `42-48`, `f7`, `f7/research-a`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gemflowd.model.errors import Invalid, echo
from gemflowd.model.ids import ID_PATTERN, MAX_NUMBER

_TASKS = re.compile(r"(\d{1,19})(?:-(\d{1,19}))?", re.ASCII)
_FLOW = re.compile(rf"f(\d{{1,19}})(?:/({ID_PATTERN}))?", re.ASCII)


@dataclass(slots=True, frozen=True)
class TaskRange:
    """Tasks by number, `last` included. One task: `first == last`."""

    first: int
    last: int


@dataclass(slots=True, frozen=True)
class FlowRef:
    number: int


@dataclass(slots=True, frozen=True)
class NamedTask:
    """A task by the id that its submitter gave it."""

    flow: int
    id: str


Ref = TaskRange | FlowRef | NamedTask


def parse(value: object, path: str) -> Ref:
    """Read a reference.

    Raises:
        Invalid: it has none of the forms.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_NUMBER:
        return TaskRange(value, value)
    if isinstance(value, str):
        if (match := _TASKS.fullmatch(value)) is not None:
            first, last = int(match[1]), int(match[2] or match[1])
            if 0 < first <= last <= MAX_NUMBER:
                return TaskRange(first, last)
        elif (match := _FLOW.fullmatch(value)) is not None and 0 < int(match[1]) <= MAX_NUMBER:
            return NamedTask(int(match[1]), match[2]) if match[2] else FlowRef(int(match[1]))
    raise Invalid("invalid_value", f"{echo(value)} is no reference; write 42, 42-48, f7 or f7/some-id", path)


def parse_all(values: list[object], path: str = "refs") -> list[Ref]:
    return [parse(value, f"{path}[{index}]") for index, value in enumerate(values)]
