"""Puts tasks into an order in which dependencies come first, as a submission in chunks needs it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gemflowctl.errors import InvalidInput


def dependencies_first(tasks: Sequence[dict[str, Any]]) -> list[int]:
    """Indexes of the tasks in an order in which each comes after those it waits for.

    Stable: a task stays where it is unless another that stands before it needs it; then it comes just before that one.
    Names that no task has are left for the daemon to refuse.

    Raises:
        InvalidInput: the dependencies form a circle.
    """
    places = {str(task["id"]): index for index, task in enumerate(tasks) if task.get("id") is not None}
    needs = [_needs(task, places) for task in tasks]
    if all(need < index for index, these in enumerate(needs) for need in these):
        return list(range(len(tasks)))
    order: list[int] = []
    done = bytearray(len(tasks))
    entered = bytearray(len(tasks))
    for start in range(len(tasks)):
        path = [start]
        while path:
            index = path[-1]
            if done[index]:
                path.pop()
                continue
            entered[index] = 1
            missing = next((need for need in needs[index] if not done[need]), None)
            if missing is None:
                done[index] = 1
                order.append(index)
                path.pop()
            elif entered[missing]:
                circle = [*path[path.index(missing) :], missing]
                names = " → ".join(str(tasks[place].get("id")) for place in circle[:20])
                raise InvalidInput(f"the dependencies form a circle: {names}", path=f"tasks[{missing}].deps")
            else:
                path.append(missing)
    return order


def _needs(task: dict[str, Any], places: dict[str, int]) -> list[int]:
    """Indexes of the tasks of the same list that this one waits for."""
    found = []
    for dep in task.get("deps") or ():
        name = dep.get("id") if isinstance(dep, dict) and "flow" not in dep else dep
        if isinstance(name, str | int) and str(name) in places:
            found.append(places[str(name)])
    return found
