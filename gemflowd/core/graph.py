"""Dependencies inside one submission: no cycle, no name twice; and what a retry means for those downstream."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Sequence

from gemflowd.model.states import On, State, satisfies

#: Edges, or tasks that are sorted, between two yields: about a millisecond.
_STEP = 5_000


def find_cycle(parents: Sequence[Sequence[int]]) -> Iterator[list[int] | None]:
    """Look for a circle among tasks 0 … n-1, where `parents[i]` are those that i waits for.

    Yields None now and then, so that a caller can do something else between the pieces, and at last the circle as a
    list of tasks, each waiting for the next, or an empty list.
    """
    children: list[list[int]] = [[] for _ in parents]
    waiting = [0] * len(parents)
    steps = 0
    for child, its in enumerate(parents):
        waiting[child] = len(its)
        for parent in its:
            children[parent].append(child)
        steps += len(its)
        if steps > _STEP:
            steps = 0
            yield None
    free = [task for task, count in enumerate(waiting) if count == 0]
    seen = 0
    while free:
        task = free.pop()
        seen += 1
        steps += len(children[task])
        for child in children[task]:
            waiting[child] -= 1
            if waiting[child] == 0:
                free.append(child)
        if steps > _STEP:
            steps = 0
            yield None
    if seen == len(parents):
        yield []
        return
    # Every task that is left waits for another that is left: following any such edge must come round.
    task = next(task for task, count in enumerate(waiting) if count)
    place: dict[int, int] = {}
    walk: list[int] = []
    while task not in place:
        place[task] = len(walk)
        walk.append(task)
        task = next(parent for parent in parents[task] if waiting[parent])
    yield walk[place[task] :]


def blocked_by(edges: Iterable[tuple[State, On]]) -> int | None:
    """How many dependencies a task that is to run again waits for, None when one of them can never be satisfied.

    Args:
        edges: of each dependency its state and what is asked of it.
    """
    waiting = 0
    for state, on in edges:
        if not state.terminal:
            waiting += 1
        elif not satisfies(state, on):
            return None
    return waiting


def remaining_paths(
    seconds: Sequence[float], parents: Sequence[Sequence[int]], behind: Sequence[float] | None = None
) -> Iterator[list[float] | None]:
    """For each task how long the longest path from its start to an end is.

    Yields None now and then, and at last the list.

    Args:
        seconds: how long each task takes.
        parents: `parents[i]` are those that i waits for; without a circle.
        behind: the longest path that begins behind each of them with a task that is not among these; None: there is none.
    """
    children = [0] * len(parents)
    steps = 0
    for its in parents:
        for parent in its:
            children[parent] += 1
        steps += len(its)
        if steps > _STEP:
            steps = 0
            yield None
    remaining = list(seconds) if behind is None else [own + rest for own, rest in zip(seconds, behind, strict=True)]
    free = [task for task, count in enumerate(children) if count == 0]
    while free:
        task = free.pop()
        for parent in parents[task]:
            remaining[parent] = max(remaining[parent], seconds[parent] + remaining[task])
            children[parent] -= 1
            if children[parent] == 0:
                free.append(parent)
        steps += len(parents[task])
        if steps > _STEP:
            steps = 0
            yield None
    yield remaining


def places(remaining: Sequence[float]) -> Iterator[array[int] | None]:
    """The place of each task, from 0, when those with the longest remaining path come first, the earlier of equal ones.

    Yields None now and then, and at last the places. One sort of a million would hold the interpreter for a second.
    """

    def longest(task: int) -> float:
        return -remaining[task]

    runs = []
    for start in range(0, len(remaining), _STEP):
        runs.append(array("q", sorted(range(start, min(start + _STEP, len(remaining))), key=longest)))
        yield None
    found = array("q", bytes(8 * len(remaining)))
    for place, task in enumerate(heapq.merge(*runs, key=longest), 1):
        found[task] = place - 1
        if place % _STEP == 0:
            yield None
    yield found
