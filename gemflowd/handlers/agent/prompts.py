"""What the models are asked: the planner for a plan, each step for its part, the writer for the answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gemflowd.handlers.agent.plan import Bounds, Problem, Step
from gemflowd.handlers.agent.schema import PRIORITIES
from gemflowd.handlers.agent.templating import literal, result_of
from gemflowd.model.tools import FILES_AND_PAGES

_TYPES = {
    "gemini": "asks a model to do what the description says, as the persona `agent` where one helps. It sees the results of its"
    " dependencies, and what it finds by its `tools`; nothing else: no pages, no files, no earlier conversation",
    "tool": "does one thing with files of the workspace or a page of the web; `data` says what",
    "analysis": "runs SQL (DuckDB) over files of the workspace; `data` says what",
    "command": "runs a program; `data` has `args`, a list, the program first",
    "memory": 'keeps a value for all agents: `data` is {"op": "set", "key": …, "value": …}, {"op": "get", "key": …} or {"op": "list",'
    ' "prefix": …}',
    "agent": "for a part that needs a plan of its own: the description is its goal. It sees the results of its dependencies",
}


def planner(
    goal: str, bounds: Bounds, personas: Mapping[str, str], types: Mapping[str, str], known: Sequence[tuple[str, str]]
) -> str:
    """The question for the plan.

    Args:
        personas: name to description.
        types: what is to be said about further types, by name.
        known: what the shared memory has, as key and value.
    """
    said = {**types, **_TYPES}
    kinds = [name for name in bounds.types if name != "agent" or bounds.nested]
    parts = [
        f"Plan how to reach this goal:\n\n{goal}",
        "Each task has `id`, `description`, `type`, `agent`, `dependencies`, `priority`, and some `data`. Types:\n"
        + "\n".join(f"- {name}: {said.get(name) or 'see its name'}" for name in kinds),
    ]
    if "tool" in kinds:
        parts.append(
            'Tools, as `data` of type tool: {"tool": "fetch_url", "url": …}, {"tool": "write_file", "path": …, "content": …},'
            ' {"tool": "read_file", "path": …}, and so on. Allowed: '
            + ", ".join(name for name in bounds.tools if name in FILES_AND_PAGES)
        )
    if "gemini" in kinds and bounds.tools:
        parts.append(
            "With `tools` the model of a gemini task decides by itself what to read, fetch or keep; without it has none, unless"
            " its persona has its own. Allowed: " + ", ".join(bounds.tools)
        )
    parts.append(
        "Personas for `agent`:\n" + "\n".join(_persona(name, personas[name], bounds) for name in bounds.agents)
    )
    if known:
        parts.append(
            "What is known already (shared memory):\n" + "\n".join(f"- {key}: {value}" for key, value in known)
        )
    parts.append(
        f"At most {bounds.tasks} tasks, and {bounds.depth} one after the other. What needs no other's result has no"
        f" dependency and runs at once. Priorities: {', '.join(PRIORITIES)}. In `data`, {{{{ deps.ID.text }}}} stands for the"
        " text of a dependency's result. A writer gathers the results at the end: don't plan that."
    )
    return "\n\n".join(parts)


def _persona(name: str, description: str, bounds: Bounds) -> str:
    if bounds.agents[name] is None:
        return f"- {name}: {description}"
    return f"- {name}: {description} Its tools, and no others: {', '.join(bounds.tools_of(name)) or 'none'}"


def mend(problems: Sequence[Problem]) -> str:
    """What is said to the planner about a plan that won't do."""
    said = "\n".join(f"- {problem}" for problem in problems)
    return f"That plan can't be carried out:\n{said}\n\nAnswer with the whole plan again, mended."


def step(goal: str, it: Step, prefix: str) -> str:
    """What a step is asked; a template, where it has dependencies."""
    text = f"{it.description}\n\n(This is one step towards a larger goal: {goal})"
    return f"{literal(text)}\n\n{_results(it.dependencies, prefix)}" if it.dependencies else text


def part(it: Step, prefix: str) -> str:
    """The goal of a step that plans for itself; a template, where it has dependencies."""
    if not it.dependencies:
        return it.description
    return f"{literal(it.description)}\n\n{_results(it.dependencies, prefix)}"


def writer(goal: str, done: Sequence[Step], failed: Sequence[Step], prefix: str) -> str:
    """What the writer is asked: a template over the results of what succeeded."""
    parts = [
        literal(f"Write the answer to this goal from the results of the steps that were taken for it:\n\n{goal}"),
        *(f"{literal(f'## {it.id}: {it.description}')}\n\n{result_of(prefix + it.id)}" for it in done),
    ]
    if failed:
        said = "\n".join(f"- {it.id}: {it.description}" for it in failed)
        parts.append(
            literal(f"These steps brought nothing. Say so where it matters, and don't make up what they lack:\n{said}")
        )
    return "\n\n".join(parts)


def _results(names: Sequence[str], prefix: str) -> str:
    return "\n\n".join(f"## Result of {name}\n\n{result_of(prefix + name)}" for name in names)


def words(value: Any, most: int = 300) -> str:
    """A value of the shared memory in a few words."""
    text = str(value.get("text", value)) if isinstance(value, Mapping) else str(value)
    return text if len(text) <= most else f"{text[:most]}…"
