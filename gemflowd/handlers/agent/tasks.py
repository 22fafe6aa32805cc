"""Steps of a plan as tasks of the flow. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gemflowd.handlers.agent import prompts
from gemflowd.handlers.agent.plan import IN_WORKSPACES, Step
from gemflowd.handlers.agent.schema import DEFAULT_NESTING, PRIORITIES
from gemflowd.handlers.agent.templating import renamed

Task = dict[str, Any]


def of_plan(data: Mapping[str, Any], steps: Sequence[Step], prefix: str) -> list[Task]:
    """The tasks of all steps.

    Args:
        data: of the agent.
        prefix: of their ids.
    """
    return [_task(data, step, prefix) for step in steps]


def writer(data: Mapping[str, Any], done: Sequence[Step], failed: Sequence[Step], prefix: str) -> Task:
    """The task that makes an answer of what the others have come to."""
    return {
        "id": f"{prefix}answer",
        "type": "gemini",
        "priority": PRIORITIES["high"],
        "data": {
            "agent": "writer",
            "tools": [],
            "prompt": prompts.writer(data["goal"], done, failed, prefix),
            **of_model(data),
        },
        "deps": [f"{prefix}{step.id}" for step in done],
    }


def of_model(data: Mapping[str, Any]) -> dict[str, Any]:
    """Which model is asked, where the agent's task says so."""
    return {name: data[name] for name in ("model", "fallback") if data.get(name)}


def _task(data: Mapping[str, Any], step: Step, prefix: str) -> Task:
    return {
        "id": prefix + step.id,
        "type": step.type,
        "priority": PRIORITIES[step.priority],
        "data": _data(data, step, prefix),
        "deps": [prefix + name for name in step.dependencies],
        "metadata": {"description": step.description},
    }


def _data(data: Mapping[str, Any], step: Step, prefix: str) -> dict[str, Any]:
    if step.type == "gemini":
        persona = {} if step.agent is None else {"agent": step.agent}
        return {
            **persona,
            "prompt": prompts.step(data["goal"], step, prefix),
            **of_model(data),
            **_of_tools(data, step),
        }
    if step.type == "agent":
        bounds = {name: value for name, value in data.items() if name not in ("goal", "nesting", "approve", "template")}
        nesting = data.get("nesting", DEFAULT_NESTING) - 1
        return {**bounds, "goal": prompts.part(step, prefix), "nesting": nesting}
    own: dict[str, Any] = renamed(step.data or {}, step.dependencies, prefix)
    if step.type == "memory" and data.get("memory"):
        own.setdefault("namespace", data["memory"])
    if step.type in IN_WORKSPACES and data.get("workspace") and own.get("tool") != "fetch_url":  # which has none
        own.setdefault("workspace", data["workspace"])
    return own


def _of_tools(data: Mapping[str, Any], step: Step) -> dict[str, Any]:
    """What the model of a step may use. An empty list keeps it from what its persona has."""
    if not step.tools:
        return {} if step.tools is None else {"tools": []}
    bounds = {name: data[name] for name in ("max_hops", "workspace") if data.get(name)}
    return {"tools": list(step.tools), **bounds}
