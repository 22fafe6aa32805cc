"""Flows that are hard on a queue: many tasks in layers, one task with very many parents, one with very many children."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Tasks = list[dict[str, Any]]

_LAYERS = 100


def _task(name: str, deps: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    # What depends on something is told of its end, whatever it was: so that cancelled flows are settled through and through.
    edges = {"deps": deps, "template": False} if deps else {}
    return {"type": "echo", "id": name, **edges, **fields}


def layers(count: int, **fields: Any) -> Tasks:
    """`count` tasks in 100 layers; each depends on one of the layer before, the first of all on none."""
    width = max(1, count // _LAYERS)
    tasks = [_task(f"t{n}", [f"t{n - width}"] if n >= width else None, **fields) for n in range(count)]
    for n in range(width + 1, min(2 * width + 1, count)):  # as many dependencies as tasks
        tasks[n]["deps"].append(f"t{n - width - 1}")
    return tasks


def parents(count: int, **fields: Any) -> Tasks:
    """One task that depends on `count` others."""
    names = [f"t{n}" for n in range(count)]
    return [*(_task(name, **fields) for name in names), _task("last", names, **fields)]


def children(count: int, **fields: Any) -> Tasks:
    """One task that `count` others depend on."""
    return [_task("first", **fields), *(_task(f"t{n}", ["first"], **fields) for n in range(count))]


SHAPES: dict[str, Callable[..., Tasks]] = {"layers": layers, "parents": parents, "children": children}
