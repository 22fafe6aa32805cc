"""What a task of a file must look like, so that a mistake is reported with its line and before anything is sent. Pure.

The daemon checks everything again, and the data by the schema of its type, which only the daemon knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gemflowctl.errors import InvalidInput
from gemflowctl.input import gemini_batch
from gemflowctl.input.entry import Entry, Place
from gemflowd.model.errors import Invalid
from gemflowd.model.ids import is_task_id
from gemflowd.protocol import codec
from gemflowd.protocol.moments import parse_moment

_NUMBER: Final = (int, float)
#: The fields of a task and their types. Those that this daemon does not carry out yet it refuses by itself.
_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "type": (str,),
    "data": (dict,),
    "id": (str, int),
    "priority": (int,),
    "deps": (list,),
    "queue": (str,),
    "delay": _NUMBER,
    "run_at": _NUMBER,
    "timeout": _NUMBER,
    "retries": (int,),
    "backoff": _NUMBER,
    "template": (bool,),
    "metadata": (dict,),
    "agent": (str,),
    "task": (str,),
    "when": (str,),
    "expires": _NUMBER,
    "expires_in": _NUMBER,
    "key": (str,),
    "key_ttl": _NUMBER,
    "key_conflict": (str,),
    "retry_on": (dict,),
    "resources": (dict,),
    "estimate": _NUMBER,
    "memory_mb": (int,),
}
#: May also be written as moments, and are sent as seconds.
_MOMENTS: Final = ("run_at", "expires")
_WORDS: Final = {
    str: "a string",
    dict: "a map",
    int: "an integer",
    float: "a number",
    list: "a list",
    bool: "true or false",
}


def to_task(value: Any, place: Place) -> dict[str, Any]:
    """The task that one item of a file means: a task, its short form, or a Gemini batch line.

    Raises:
        InvalidInput: with the place.
    """
    if not isinstance(value, dict):
        raise InvalidInput(f"{place}: a task is a map, not {_WORDS.get(type(value), type(value).__name__)}")
    try:
        task = gemini_batch.to_task(value) if gemini_batch.is_line(value) else dict(value)
        _check_fields(task)
        codec.check_value(task, "task")
    except Invalid as problem:
        where = (problem.path or "").removeprefix("task").removeprefix(".")
        hint = "; put dates in quotes" if "datetime" in problem.message or "date " in problem.message else ""
        raise InvalidInput(f"{place}: {f'`{where}`: ' if where else ''}{problem.message}{hint}") from None
    except ValueError as problem:
        raise InvalidInput(f"{place}: {problem}") from None
    return task


def _check_fields(task: dict[str, Any]) -> None:
    for field in _MOMENTS:
        if field in task:
            try:
                task[field] = parse_moment(task[field])
            except ValueError as problem:
                raise ValueError(f"`{field}`: {problem}") from None
    for field, value in task.items():
        kinds = _FIELDS.get(field)
        if kinds is None:
            raise ValueError(f"`{field}` is not a field of a task")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ValueError(f"`{field}` must be {_WORDS[kinds[-1]]}")
    if "type" not in task and "task" not in task:
        raise ValueError("a task needs `type` (or `task`, the short form)")
    if "id" in task and not is_task_id(str(task["id"])):
        raise ValueError(f"`id` {task['id']!r} may hold only letters, digits, `_`, `.` and `-`, at most 128")
    for index, dep in enumerate(task.get("deps", ())):
        _check_dep(dep, index)
    for field, kinds in (("retry_on", (int,)), ("resources", _NUMBER)):
        for name, amount in task.get(field, {}).items():
            if not isinstance(amount, kinds) or isinstance(amount, bool):
                raise ValueError(f"`{field}.{name}` must be {_WORDS[kinds[-1]]}")  # noqa: TRY004


def _check_dep(dep: Any, index: int) -> None:
    if isinstance(dep, str | int) and not isinstance(dep, bool):
        return
    if not isinstance(dep, dict):
        raise ValueError(f"`deps[{index}]` must be an id or a map")  # noqa: TRY004 - one kind for all of these
    unknown = sorted(str(key) for key in set(dep) - {"id", "number", "flow", "on"})
    if unknown:
        raise ValueError(f"`deps[{index}].{unknown[0]}` is not known")
    if ("id" in dep) == ("number" in dep):
        raise ValueError(f"`deps[{index}]` needs either `id` or `number`")
    if dep.get("on", "success") not in ("success", "failure", "done"):
        raise ValueError(f"`deps[{index}].on` must be success, failure or done")


def check_together(entries: Sequence[Entry], *, grows: bool = False) -> None:
    """What can be wrong with tasks that are right one by one: an id twice, a dependency that is not there.

    Args:
        grows: they are added to a flow, whose tasks they may wait for.

    Raises:
        InvalidInput: with the place.
    """
    places: dict[str, Place] = {}
    for entry in entries:
        if "id" in entry.task:
            name = str(entry.task["id"])
            if name in places:
                raise InvalidInput(f"{entry.place}: the id {name!r} was used before ({places[name]})")
            places[name] = entry.place
    if grows:
        return
    for entry in entries:
        for dep in entry.task.get("deps", ()):
            other = dep if not isinstance(dep, dict) else dep["id"] if "id" in dep and "flow" not in dep else None
            if other is not None and str(other) not in places:
                raise InvalidInput(f"{entry.place}: it waits for {other!r}, but no task has that id")
