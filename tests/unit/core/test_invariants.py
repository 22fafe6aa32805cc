"""The checker of the invariants finds each kind of breach, and nothing where there is none."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.turns import NOW, make_flow, make_task

from gemflowd.core.invariants import violations
from gemflowd.model.states import FlowState, On, State


def judge(*tasks: Any, edges: Any = (), results: Any = (), settling: Any = (), **flow: Any) -> str:
    counts: dict[State, int] = {}
    for task in tasks:
        counts[task.state] = counts.get(task.state, 0) + 1
    the_flow = make_flow(1, **{"counts": counts, **flow})
    return "; ".join(violations({task.number: task for task in tasks}, {1: the_flow}, edges, results, settling))


def test_nothing_to_say():
    tasks = [
        make_task(1, State.SUCCEEDED, finished=NOW),
        make_task(2, State.RUNNING, token=1, started=NOW + 1),
        make_task(3, State.BLOCKED, waiting=1),
        make_task(4, State.SCHEDULED, due=NOW),
    ]
    edges = [(1, 2, On.SUCCESS, True), (2, 3, On.DONE, False)]
    assert judge(*tasks, edges=edges, results=[1]) == ""


@pytest.mark.parametrize(
    ("task", "results", "said"),
    [
        (make_task(1), [1], "result stored: True"),
        (make_task(1, State.SUCCEEDED), [], "result stored: False"),
        (make_task(1, State.SCHEDULED), [], "scheduled without a time"),
        (make_task(1, State.RUNNING), [], "runs without a token"),
        (make_task(1, State.READY, waiting=1), [], "is ready and waits for 1"),
        (make_task(1, State.BLOCKED), [], "blocked by nothing"),
        (make_task(1, State.BLOCKED, waiting=2), [], "waits for 2, has 0 open edges"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_task_by_itself(task: Any, results: list[int], said: str):
    state = FlowState.ACTIVE if not task.state.terminal else FlowState.SUCCEEDED
    assert said in judge(task, results=results, state=state)


def test_a_flow():
    assert "counts" in judge(make_task(1), counts={})
    assert "tasks left: False" in judge(make_task(1, State.FAILED))
    assert "tasks left: True" in judge(make_task(1), state=FlowState.FAILED)
    assert judge(make_task(1, State.CANCELLED), state=FlowState.OPEN) == ""


def test_a_dependent_that_nobody_told():
    tasks = [make_task(1, State.FAILED), make_task(2, State.BLOCKED, waiting=1)]
    edges = [(1, 2, On.SUCCESS, False)]
    assert judge(*tasks, edges=edges) == "task 2 was not told that 1 ended"
    assert judge(*tasks, edges=edges, settling=[1]) == ""
