"""A workflow in WfCommons JSON 1.5, and how long it takes where starting a task costs nothing."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Graph(NamedTuple):
    """A workflow, parents before children."""

    name: str
    seconds: dict[str, float]
    parents: dict[str, list[str]]

    def work(self) -> float:
        return sum(self.seconds.values())

    def critical_path(self) -> float:
        return max(self.remaining().values())

    def depth(self) -> int:
        """The most tasks in a row."""
        depths: dict[str, int] = {}
        for name, its in self.parents.items():
            depths[name] = 1 + max((depths[parent] for parent in its), default=0)
        return max(depths.values())

    def remaining(self) -> dict[str, float]:
        """Seconds from each task's start to the end of the longest path behind it."""
        behind = dict.fromkeys(self.parents, 0.0)
        for name in reversed(self.parents):
            for parent in self.parents[name]:
                behind[parent] = max(behind[parent], self.seconds[name] + behind[name])
        return {name: self.seconds[name] + behind[name] for name in self.parents}

    def bound(self, slots: int) -> float:
        return max(self.critical_path(), self.work() / slots)


def read(path: Path) -> Graph:
    """Raises ValueError: it is no workflow of that form."""
    try:
        workflow = json.loads(path.read_text())["workflow"]
        runtimes = {task["id"]: float(task["runtimeInSeconds"]) for task in workflow["execution"]["tasks"]}
        parents = {task["id"]: list(dict.fromkeys(task["parents"])) for task in workflow["specification"]["tasks"]}
        return Graph(path.stem, {name: runtimes[name] for name in parents}, _in_order(parents))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no WfCommons 1.5 workflow: {error!r}") from error


def _in_order(parents: dict[str, list[str]]) -> dict[str, list[str]]:
    """Parents before children, otherwise in the order of the file."""
    left = {name: len(its) for name, its in parents.items()}
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, its in parents.items():
        for parent in its:
            children[parent].append(name)
    found = [name for name, count in left.items() if not count]
    for name in found:  # grows while it is walked through
        for child in children[name]:
            left[child] -= 1
            if not left[child]:
                found.append(child)
    if len(found) < len(parents):
        raise ValueError("its tasks wait for each other in a circle")
    return {name: parents[name] for name in found}


def modelled(graph: Graph, slots: int, *, by_path: bool) -> float:
    """Makespan of an ideal list scheduler: whenever a slot is free the next ready task starts, at once.

    Args:
        by_path: the one with the longest remaining path, else the one that became ready first.
    """
    remaining = graph.remaining()
    left = {name: len(its) for name, its in graph.parents.items()}
    children: dict[str, list[str]] = {name: [] for name in graph.parents}
    for name, its in graph.parents.items():
        for parent in its:
            children[parent].append(name)
    urgency: Callable[[str], float] = (lambda name: -remaining[name]) if by_path else (lambda name: 0.0)
    count = 0
    ready: list[tuple[float, int, str]] = []
    running: list[tuple[float, str]] = []
    now = 0.0
    became_ready = [name for name, waiting in left.items() if not waiting]
    while became_ready or ready or running:
        for name in became_ready:
            count += 1
            heapq.heappush(ready, (urgency(name), count, name))
        while ready and len(running) < slots:
            name = heapq.heappop(ready)[2]
            heapq.heappush(running, (now + graph.seconds[name], name))
        now, ended = heapq.heappop(running)
        for child in children[ended]:
            left[child] -= 1
        became_ready = [child for child in children[ended] if not left[child]]
    return now
