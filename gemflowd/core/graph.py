"""Dependencies inside one submission: no cycle, no name twice; and what a retry means for those downstream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gemflowd.model.states import On, State, satisfies

#: Edges between two yields of `find_cycle`: about a millisecond.
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


def remaining_paths(seconds: Sequence[float], parents: Sequence[Sequence[int]]) -> list[float]:
    """For each task how long the longest path from its start to an end is.

    Args:
        seconds: how long each task takes.
        parents: `parents[i]` are those that i waits for; without a circle.
    """
    children = [0] * len(parents)
    for its in parents:
        for parent in its:
            children[parent] += 1
    remaining = list(seconds)
    free = [task for task, count in enumerate(children) if count == 0]
    while free:
        task = free.pop()
        for parent in parents[task]:
            remaining[parent] = max(remaining[parent], seconds[parent] + remaining[task])
            children[parent] -= 1
            if children[parent] == 0:
                free.append(parent)
    return remaining
