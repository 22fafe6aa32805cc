"""What a task's call will use, by what the task says; and what is reserved for those in flight when a budget is set.

Does not cover: the estimate itself (`core.budgets`).
"""

from __future__ import annotations

from typing import Any

import msgpack

from gemflowd.core import budgets
from gemflowd.core.batched import is_in_batch
from gemflowd.engine.rows import Rows
from gemflowd.model.batch import BUCKET
from gemflowd.model.budget import Budget, Scope
from gemflowd.model.lane import Lane
from gemflowd.model.prices import MOST_TOKENS, model_of
from gemflowd.model.task import Task


def wanted(rows: Rows, task: Task, model: str) -> budgets.Estimate:
    """What an attempt of a task will use, about."""
    return budgets.estimate(rows.turn, model, task.size, _wish(rows, task.number))


def _wish(rows: Rows, number: int) -> budgets.Wish:
    """What a task says of its call: the length of its answer, the tier."""
    data = msgpack.unpackb(rows.store.bodies([number])[number], strict_map_key=False).get("data")
    if not isinstance(data, dict):
        return budgets.Wish()
    config: Any = data.get("config")
    if not isinstance(config, dict):
        config = {}
    most = config.get("max_output_tokens", config.get("maxOutputTokens"))
    ceiling = most if type(most) is int and 0 < most <= MOST_TOKENS else None
    said = (data.get("tier"), data.get("service_tier"), config.get("service_tier"), config.get("serviceTier"))
    return budgets.Wish(ceiling, next((tier.lower() for tier in said if isinstance(tier, str)), ""))


def reserve_in_flight(rows: Rows, budget: Budget) -> None:
    """A budget is new: it counts what runs already, or has its question in a batch."""
    turn, running = rows.turn, rows.memory.running
    for task in rows.tasks(sorted({*running, *rows.store.batches.waiting()})).values():
        lane = turn.lanes[task.lane]
        model = _called(lane)
        if model is None or task.state.terminal or not _is_of(budget, task, lane):
            continue
        if task.number in running or is_in_batch(lane):
            budgets.reserve_more(turn, task, budget, wanted(rows, task, model))


def _called(lane: Lane) -> str | None:
    """The model that is asked by an attempt of a lane, or has been by one that has joined a batch."""
    bucket = lane.key.bucket
    return bucket[len(BUCKET) :] if bucket is not None and is_in_batch(lane) else model_of(bucket)


def _is_of(budget: Budget, task: Task, lane: Lane) -> bool:
    match budget.scope:
        case Scope.TASK:
            return task.number == budget.target
        case Scope.FLOW:
            return task.flow == budget.target
        case Scope.QUEUE:
            return lane.key.queue == budget.target
    return True
