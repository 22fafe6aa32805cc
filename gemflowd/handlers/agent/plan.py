"""A plan: what the model has answered, checked by rules that don't trust it. Pure.

Every problem is found at once, each with a code and its path in the plan, for the model to mend and for a person to see. Does not
cover what a plan costs (`handler`) and how its steps become tasks (`tasks`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from gemflowd.handlers.agent.schema import PRIORITIES
from gemflowd.handlers.agent.templating import foreign_names, has_one
from gemflowd.model import tools
from gemflowd.templates import problem as template_problem

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
#: Ids that the agent's own tasks have.
_TAKEN: Final = frozenset({"plan", "answer"})
_FIELDS: Final = frozenset({"id", "description", "type", "agent", "tools", "dependencies", "priority", "data"})
#: Types whose input follows from the description.
SPOKEN: Final = frozenset({"gemini", "agent"})
#: Types that work with files, or may: their input may say in which workspace.
IN_WORKSPACES: Final = frozenset({"tool", "command", "analysis", "gemini.count"})
#: Types whose input may say where they work.
_PLACED: Final = IN_WORKSPACES | {"memory"}
_MOST_PROBLEMS: Final = 20
_MOST_WORDS: Final = 300


class Problem(NamedTuple):
    """One thing that is wrong with a plan. `path` is the field, as in `tasks[2].agent`."""

    code: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message} ({self.code})"


class BadPlan(Exception):
    """It can't be carried out. The message has all problems."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems[:_MOST_PROBLEMS])
        super().__init__("; ".join(map(str, self.problems)))


#: Why a step's data does not fit its type, and where; None: it does.
Fits = Callable[[str, Mapping[str, Any]], tuple[str, str] | None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a plan may hold.

    Attributes:
        agents: names of personas, each with the tools of its list; None: it has no list.
        tools: that steps may use, or models in them.
        named: whether who asked has named the tools: then there are no others.
        depth: tasks in its longest chain of dependencies.
        nested: whether a step may be an agent.
        memory: the namespace that steps may use beside the flow's own.
        workspace: that steps use in place of the flow's own.
        servers: names of the MCP servers.
    """

    types: Sequence[str]
    agents: Mapping[str, Sequence[str] | None]
    tools: Sequence[str]
    tasks: int
    depth: int
    nested: bool
    fits: Fits
    named: bool = False
    memory: str | None = None
    workspace: str | None = None
    servers: Sequence[str] = ()

    def tools_of(self, agent: str | None) -> list[str]:
        """What the model of a step may use as that persona: within its list, if it has one, and within the bounds."""
        own = None if agent is None else self.agents.get(agent)
        if own is None:
            return list(self.tools)
        # What was not named is bounded by the list alone, but for what runs programs: that has to be named.
        return tools.permitted(self.tools, own) if self.named else [name for name in own if name != tools.SHELL]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan. `priority` is a word of `PRIORITIES`."""

    id: str
    description: str
    type: str
    agent: str | None
    dependencies: tuple[str, ...]
    priority: str
    data: dict[str, Any] | None = None
    tools: tuple[str, ...] | None = None  # of the model; None: nothing is said of them

    def body(self) -> dict[str, Any]:
        """As it is shown and stored."""
        body: dict[str, Any] = {
            "id": self.id,
            "description": self.description,
            "type": self.type,
            "agent": self.agent,
            "dependencies": list(self.dependencies),
            "priority": self.priority,
        }
        if self.data is not None:
            body["data"] = self.data
        return body if self.tools is None else {**body, "tools": list(self.tools)}


def step_from(body: Mapping[str, Any]) -> Step:
    """The opposite of `Step.body`."""
    said = body.get("tools")
    return Step(**{**body, "dependencies": tuple(body["dependencies"]), "tools": None if said is None else tuple(said)})


def read_plan(value: Any, bounds: Bounds) -> list[Step]:
    """Check an answer.

    Raises:
        BadPlan: with all that is wrong.
    """
    found = value.get("tasks") if isinstance(value, Mapping) else None
    if not isinstance(found, list) or not found:
        raise BadPlan([Problem("empty_plan", "tasks", "a plan is a list `tasks` with at least one task")])
    problems: list[Problem] = []
    if len(found) > bounds.tasks:
        problems.append(
            Problem("too_many_tasks", "tasks", f"the plan has {len(found)} tasks; at most {bounds.tasks} are allowed")
        )
        raise BadPlan(problems)
    ids = [str(item.get("id")) if isinstance(item, Mapping) else "" for item in found]
    steps = []
    for index, item in enumerate(found):
        path = f"tasks[{index}]"
        if not isinstance(item, Mapping):
            problems.append(Problem("wrong_type", path, "must be an object"))
            continue
        step = _step(item, path, problems)
        if ids.index(step.id) < index:
            problems.append(Problem("duplicate_id", f"{path}.id", f"{step.id!r} is the id of another task"))
        _check(step, path, ids, bounds, problems)
        if step.type == "gemini" and (step.tools or bounds.agents.get(step.agent or "") is not None):
            # A persona's list is written out: what is approved, and held against the bounds, is what runs.
            step = replace(step, tools=step.tools or tuple(bounds.tools_of(step.agent)))
        steps.append(step)
    if not problems:
        _check_order(steps, bounds, problems)
    if problems:
        raise BadPlan(problems)
    return steps


def depth_of(steps: Sequence[Step]) -> int:
    """Tasks in the longest chain; 0 where they go in a circle."""
    depths: dict[str, int] = {}
    left = list(steps)
    while left:
        ready = [step for step in left if all(name in depths for name in step.dependencies)]
        if not ready:
            return 0
        for step in ready:
            depths[step.id] = 1 + max((depths[name] for name in step.dependencies), default=0)
        left = [step for step in left if step.id not in depths]
    return max(depths.values(), default=0)


def _step(item: Mapping[str, Any], path: str, problems: list[Problem]) -> Step:
    unknown = sorted(set(item) - _FIELDS)
    problems += [Problem("unknown_field", f"{path}.{name}", "there is no such field") for name in unknown]
    texts = {}
    for name in ("id", "description", "type", "priority"):
        value = item.get(name)
        if name == "id" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            problems.append(Problem("missing_field", f"{path}.{name}", "must be a text that is not empty"))
            value = ""
        texts[name] = value.strip()
    lists = {}
    for name, of in (("dependencies", "ids"), ("tools", "names")):
        lists[name] = item.get(name) or []
        if not isinstance(lists[name], list):
            problems.append(Problem("wrong_type", f"{path}.{name}", f"must be a list of {of}"))
            lists[name] = []
    agent = item.get("agent") or None
    if agent is not None and not isinstance(agent, str):
        problems.append(Problem("wrong_type", f"{path}.agent", "must be a name"))
        agent = None
    return Step(
        **texts,
        agent=agent,
        dependencies=tuple(dict.fromkeys(map(str, lists["dependencies"]))),
        tools=tuple(dict.fromkeys(map(str, lists["tools"]))) or None,
        data=_data(item.get("data"), f"{path}.data", problems),
    )


def _data(value: Any, path: str, problems: list[Problem]) -> dict[str, Any] | None:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            problems.append(Problem("invalid_data", path, f"must be a JSON object as text: {error}"))
            return None
    if not value:
        return None
    if not isinstance(value, dict):
        problems.append(Problem("invalid_data", path, "must be a JSON object as text"))
        return None
    return value


def _check(step: Step, path: str, ids: Sequence[str], bounds: Bounds, problems: list[Problem]) -> None:
    def wrong(code: str, field: str, message: str) -> None:
        problems.append(Problem(code, f"{path}.{field}", message))

    if step.id and not _ID.fullmatch(step.id):
        wrong("invalid_value", "id", "an id has 1 to 40 letters, digits, _ and -")
    if step.id in _TAKEN:
        wrong("invalid_value", "id", f"{step.id!r} is the id of a task of the agent itself")
    for place, name in enumerate(step.dependencies):
        if name not in ids:
            wrong("unknown_dependency", f"dependencies[{place}]", f"there is no task {name!r}")
    if step.priority and step.priority not in PRIORITIES:
        wrong("invalid_value", "priority", f"must be one of {', '.join(PRIORITIES)}")
    if step.type and step.type not in bounds.types:
        wrong(
            "unknown_type", "type", f"there is no type {step.type!r} for a plan; there are: {', '.join(bounds.types)}"
        )
        return
    if step.type == "agent" and not bounds.nested:
        wrong("too_deep", "type", "an agent at this depth plans no further agents")
    if step.agent is not None and step.type != "gemini":
        wrong("invalid_value", "agent", "only a task of type gemini has an agent")
    elif step.agent is not None and step.agent not in bounds.agents:
        wrong("unknown_agent", "agent", f"there is no agent {step.agent!r}; there are: {', '.join(bounds.agents)}")
    if step.tools and step.type != "gemini":
        wrong("invalid_value", "tools", "only a task of type gemini has tools for its model")
    elif step.tools:
        for place, name in enumerate(step.tools):
            if (why := _not_permitted(name, step.agent, bounds)) is not None:
                wrong(why[0], f"tools[{place}]", why[1])
    if step.type in SPOKEN:
        if step.data is not None:
            wrong("invalid_data", "data", f"a task of type {step.type} has none: say it all in the description")
        return
    _check_data(step, path, bounds, problems)


def _not_permitted(name: str, agent: str | None, bounds: Bounds) -> tuple[str, str] | None:
    """Why the model of a step may not use a tool, as a code and a sentence; None: it may."""
    if (why := tools.problem(name, bounds.servers)) is not None:
        return "unknown_tool", why
    given = bounds.tools_of(agent)
    if name in tools.permitted([name], given):
        return None
    who = "a task" if agent is None else f"the agent {agent!r}"
    return "not_permitted", f"{who} may not use {name!r} here; it may use: {', '.join(given) or 'none'}"


def _strays(step: Step, bounds: Bounds) -> tuple[str, str] | None:
    """The field by which a step would leave its flow, and why that is not for a plan to say; None: it stays."""
    data = step.data or {}
    name, allowed = ("namespace", bounds.memory) if step.type == "memory" else ("workspace", bounds.workspace)
    if step.type in _PLACED and name in data and (allowed is None or data[name] != allowed):
        own = f"{allowed!r}" if allowed else "that of the flow: leave it out"
        return name, f"a plan may use no other {name} than {own}"
    if step.type == "mcp" and bounds.named:
        tool = f"{tools.MCP}{data.get('server')}/{data.get('tool')}"
        if not tools.permitted([tool], bounds.tools):
            return "tool", f"there is no tool {tool!r} for a plan; there are: {', '.join(bounds.tools)}"
    return None


def _check_data(step: Step, path: str, bounds: Bounds, problems: list[Problem]) -> None:
    data = step.data or {}
    if step.type == "tool" and isinstance(tool := data.get("tool"), str) and tool not in bounds.tools:
        there = ", ".join(name for name in bounds.tools if name in tools.FILES_AND_PAGES)
        message = f"there is no tool {tool!r} for a plan; there are: {there or 'none'}"
        problems.append(Problem("invalid_data", f"{path}.data.tool", message))
    elif (stray := _strays(step, bounds)) is not None:
        problems.append(Problem("not_permitted", f"{path}.data.{stray[0]}", stray[1]))
    elif (why := bounds.fits(step.type, data)) is not None:
        problems.append(Problem("invalid_data", f"{path}.data{why[0]}", why[1][:_MOST_WORDS]))
    for text in _texts(data):
        if not has_one(text):
            continue
        if (bad := template_problem(text)) is not None:
            problems.append(Problem("invalid_template", f"{path}.data", bad))
        for name in foreign_names(text, step.dependencies):
            message = f"the template names {name!r}, which is not among the dependencies"
            problems.append(Problem("invalid_template", f"{path}.data", message))
        if not step.dependencies:
            problems.append(Problem("invalid_template", f"{path}.data", "a template needs dependencies"))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


def _check_order(steps: Sequence[Step], bounds: Bounds, problems: list[Problem]) -> None:
    depth = depth_of(steps)
    if depth == 0:
        problems.append(Problem("cycle", "tasks", f"these tasks wait for each other: {' → '.join(_circle(steps))}"))
    elif depth > bounds.depth:
        message = f"the longest chain of dependencies has {depth} tasks; at most {bounds.depth} are allowed"
        problems.append(Problem("too_deep", "tasks", message))


def _circle(steps: Sequence[Step]) -> list[str]:
    """Some circle, from a task back to it. There is one."""
    by_id = {step.id: step for step in steps}
    done: set[str] = set()
    while ended := {s.id for s in steps if s.id not in done and all(name in done for name in s.dependencies)}:
        done |= ended
    way = [next(step.id for step in steps if step.id not in done)]
    while way.count(way[-1]) < 2:
        way.append(next(name for name in by_id[way[-1]].dependencies if name not in done))
    return way[way.index(way[-1]) :]
