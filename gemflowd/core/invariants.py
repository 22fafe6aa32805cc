"""What must hold after every turn (docs/architecture.md, "Invariants"). For tests; the daemon does not run it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from gemflowd.model.states import FlowState, On, State
from gemflowd.model.task import JUDGING, LINKING, Flow, Task


def violations(
    tasks: Mapping[int, Task],
    flows: Mapping[int, Flow],
    edges: Iterable[tuple[int, int, On, bool]],
    results: Iterable[int],
    settling: Iterable[int] = (),
) -> list[str]:
    """Every broken invariant as a sentence.

    Not among them: whether a task that runs was allowed to. A dependency that ended as asked may have been retried since
    and ended otherwise, so rows alone can't tell; tests follow the events for it.

    Args:
        edges: parent, child, on, settled.
        results: tasks that have a result.
        settling: tasks whose dependents are still being told.
    """
    found: list[str] = []
    counts: dict[int, Counter[State]] = {number: Counter() for number in flows}
    with_result = set(results)
    pending = set(settling)
    for task in tasks.values():
        counts[task.flow][task.state] += 1
        if (task.number in with_result) != (task.state is State.SUCCEEDED):
            found.append(f"task {task.number} is {task.state.word}, result stored: {task.number in with_result}")
        if task.state is State.SCHEDULED and task.due is None:
            found.append(f"task {task.number} is scheduled without a time")
        if task.state is State.RUNNING and task.token == 0:
            found.append(f"task {task.number} runs without a token")
        if task.state in (State.READY, State.RUNNING) and task.waiting:
            found.append(f"task {task.number} is {task.state.word} and waits for {task.waiting}")
        if task.state is State.BLOCKED and not task.waiting and not task.flags & JUDGING:
            found.append(f"task {task.number} is blocked by nothing")
    for flow in flows.values():
        if {state: count for state, count in flow.counts.items() if count} != dict(counts[flow.number]):
            found.append(f"flow {flow.number} counts {flow.counts}, has {dict(counts[flow.number])}")
        left = any(not state.terminal for state in counts[flow.number])
        if flow.state != FlowState.OPEN and left != (flow.state == FlowState.ACTIVE):
            found.append(f"flow {flow.number} is {FlowState(flow.state).word}, tasks left: {left}")
    waiting: Counter[int] = Counter()
    for parent, child, _, settled in edges:
        if not settled:
            waiting[child] += 1
            told = parent in pending or flows[tasks[child].flow].cancelled  # or all of it is being cancelled
            if tasks[parent].state.terminal and not told and not tasks[child].state.terminal:
                found.append(f"task {child} was not told that {parent} ended")
    found.extend(
        f"task {task.number} waits for {task.waiting}, has {waiting[task.number]} open edges"
        for task in tasks.values()
        if not task.state.terminal and task.waiting != waiting[task.number] + bool(task.flags & LINKING)
    )
    return found
