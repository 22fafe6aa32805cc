"""Turns and rows by hand, for tests of decisions (`core`) and of what a store makes of them."""

from __future__ import annotations

import random
from typing import Any

from gemflowd.core.turn import Turn
from gemflowd.model.attempt import Kind
from gemflowd.model.lane import Lane, LaneKey
from gemflowd.model.rules import Rules
from gemflowd.model.states import FlowState, State
from gemflowd.model.task import Flow, Task

NOW = 1_000.0


def make_turn(now: float = NOW, rules: Rules | None = None, lanes: list[Lane] | None = None) -> Turn:
    """A turn that knows lane 1 (blocking, queue `default`), or those that are given."""
    lanes = [Lane(1, LaneKey("default", None, Kind.BLOCKING))] if lanes is None else lanes
    by_number = {lane.number: lane for lane in lanes}
    by_key = {lane.key: lane for lane in lanes}
    return Turn(now, now, random.Random(0), rules or Rules(), by_number, by_key, {}, {}, {}, {})


def make_flow(number: int = 1, **fields: Any) -> Flow:
    values: dict[str, Any] = {
        "submission": f"s{number}",
        "name": None,
        "state": FlowState.ACTIVE,
        "created": NOW,
        "finished": None,
        "first": 0,
        "received": 0,
        "last_tag": 0.0,
        "weight": 1.0,
        "counts": {},
    }
    return Flow(number=number, **{**values, **fields})


def make_task(number: int = 1, state: State = State.READY, **fields: Any) -> Task:
    values: dict[str, Any] = {"flow": 1, "id": None, "type": "echo", "priority": 5, "lane": 1, "created": NOW}
    return Task(number=number, state=state, **{**values, **fields})


def hold(turn: Turn, *tasks: Task) -> Turn:
    """Make the turn know stored tasks, and flows whose counts fit."""
    for task in tasks:
        turn.tasks[task.number] = task
        flow = turn.flows.setdefault(task.flow, make_flow(task.flow))
        flow.counts[task.state] = flow.counts.get(task.state, 0) + 1
    return turn
