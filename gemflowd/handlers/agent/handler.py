"""The task types `agent.plan` and `agent`: a goal to a checked plan, and a goal to an answer.

Neither waits for a task while it runs. Each attempt adds what comes next as a step, and ends to wait for it (`Wait`) with a
note of where it stands; the next one finds the results. A crash anywhere repeats no step: the daemon knows which were taken.

    agent       adds `X.plan`  →  adds the plan's tasks `X.ID`  →  adds `X.answer` (the writer)  →  its text is the result
    agent.plan  adds `X.plan.ask-1` (the planner)  →  checks its answer: the plan is the result, or it is asked again
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Never

from gemflowd.handlers.agent import prompts, tasks
from gemflowd.handlers.agent.cost import estimate, over
from gemflowd.handlers.agent.plan import BadPlan, Bounds, Problem, depth_of, read_plan, step_from
from gemflowd.handlers.agent.schema import (
    AGENT_DATA,
    DEFAULT_DEPTH,
    DEFAULT_NESTING,
    DEFAULT_REASKS,
    DEFAULT_TASKS,
    DEFAULT_TOOLS,
    DEFAULT_TYPES,
    NOT_PLANNED,
    PLAN,
    PLAN_DATA,
    PRIORITIES,
)
from gemflowd.handlers.agent.templating import has_one
from gemflowd.handlers.errors import Again, Instead, Permanent, RequestRefused, Wait
from gemflowd.handlers.registry import task
from gemflowd.model import tools

if TYPE_CHECKING:
    from gemflowd.worker.context import AsyncContext

#: Characters of an id: those of its tasks begin with it.
_MOST_ID: Final = 60
#: Entries of the shared memory that the planner is told.
_MOST_KNOWN: Final = 50
#: Asked: a person. Only who releases this very task lets another attempt begin, unless it is retried: then it is asked anew.
_PLANNED, _ASKED, _APPROVED, _RAN, _WRITTEN = "planned", "asked", "approved", "ran", "written"
#: From which stage it goes on when it is retried. What ran was approved.
_BACK: Final[dict[str | None, str | None]] = {_RAN: _APPROVED, _WRITTEN: _APPROVED, _ASKED: _PLANNED, _PLANNED: None}


@task("agent.plan", schema=PLAN_DATA)
async def plan(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """Make a plan for a goal, and check it.

    Data: `goal`, `model`, `fallback`, `max_tasks`, `max_depth`, `nesting` (agents within agents), `max_reasks`, `agents`, `types` and
    `tools` (what it may use), `max_hops` (of a step with tools), `memory` (a namespace whose entries the planner is told), `workspace`.
    Result: `{goal, tasks: [{id, description, type, agent, dependencies, priority, data?, tools?}], depth, rounds, estimate}`.

    Raises:
        Permanent: `bad_plan`, `no_plan` (the planner's call has failed), `unknown_agent`, `unknown_type`, `unknown_tool`.
        Wait: the planner was asked.
    """
    catalogue = await context.catalogue()
    bounds, personas, types = _bounds(data, catalogue)
    name, round_ = _name(context), int((context.note or {}).get("round", 0))
    question = prompts.planner(data["goal"], bounds, personas, types, await _known(data, context))
    if round_ == 0:
        await _ask(data, context, 1, {"prompt": question})
    answer = context.results.get(f"{name}.ask-{round_}")
    if not isinstance(answer, Mapping):
        if not context.agains:  # retried by a person, and so is perhaps the planner's call
            await _ask(data, context, round_, {"prompt": question})
        raise Permanent(
            f"the planner gave no answer: gemflowctl show f{context.flow}/{name}.ask-{round_}", code="no_plan"
        )
    try:
        steps = read_plan(answer.get("parsed"), bounds)
        cost = await estimate(data, steps, context)
        if (why := over(cost)) is not None:
            raise BadPlan([Problem("over_budget", "tasks", why)])
    except BadPlan as bad:
        for problem in bad.problems:
            context.log(f"plan {round_}: {problem}")
        if context.agains > data.get("max_reasks", DEFAULT_REASKS):
            raise Permanent(f"no plan in {round_} rounds can be carried out: {bad}", code="bad_plan") from None
        talk = [("user", question), ("model", str(answer.get("text"))), ("user", prompts.mend(bad.problems))]
        contents = [{"role": role, "parts": [{"text": text}]} for role, text in talk]
        await _ask(data, context, round_ + 1, {"contents": contents})
    return {
        "goal": data["goal"],
        "tasks": [step.body() for step in steps],
        "depth": depth_of(steps),
        "rounds": round_,
        "estimate": cost,
    }


@task("agent", schema=AGENT_DATA)
async def agent(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """Reach a goal: plan, carry the plan out as tasks of the flow, and write the answer.

    Data: as `agent.plan`, and `approve`: the plan waits until a person releases this task. Result: `{text, goal, steps, failed}`,
    the ids of the plan's tasks that succeeded and of those that did not.

    Raises:
        Permanent: `no_plan`, `no_result` (no step has succeeded), `no_answer` (the writer's call has failed), `refused`.
        Again, Wait: the plan waits for a person; what comes next was added.
    """
    name = _name(context)
    prefix = f"{name}."
    stage = (context.note or {}).get("stage")
    if not context.agains:  # the first attempt, or retried by a person: what has been retried with it is awaited anew
        stage = _BACK.get(stage, stage)
    if stage is None:
        wanted = {key: value for key, value in data.items() if key != "approve"}
        await _go_on(
            context, [{"id": f"{prefix}plan", "type": "agent.plan", "data": wanted, "priority": 8}], "plan", _PLANNED
        )
    found = context.results.get(f"{prefix}plan")
    if not isinstance(found, Mapping):
        raise Permanent(f"there is no plan: gemflowctl show f{context.flow}/{prefix}plan", code="no_plan")
    steps = [step_from(body) for body in found["tasks"]]
    if stage == _PLANNED and data.get("approve"):
        why = (
            f"its plan waits for approval: gemflowctl results f{context.flow}/{prefix}plan, then release {context.task}"
        )
        raise Again(why, Instead({"stage": _ASKED}, hold=why), code="approval")
    if stage in (_PLANNED, _ASKED, _APPROVED):
        await _go_on(context, tasks.of_plan(data, steps, prefix), "run", _RAN)
    done = [step for step in steps if f"{prefix}{step.id}" in context.results]
    failed = [step for step in steps if step not in done]
    if not done:
        raise Permanent(f"none of the {len(steps)} tasks of the plan has succeeded", code="no_result")
    if stage == _RAN:
        await _go_on(context, [tasks.writer(data, done, failed, prefix)], "write", _WRITTEN)
    answer = context.results.get(f"{prefix}answer")
    if not isinstance(answer, Mapping):
        raise Permanent(f"the writer gave no answer: gemflowctl show f{context.flow}/{prefix}answer", code="no_answer")
    result = {
        "text": answer.get("text"),
        "goal": data["goal"],
        "steps": [step.id for step in done],
        "failed": [step.id for step in failed],
    }
    if data.get("memory"):
        await context.memory.set(
            f"{prefix}answer", {"goal": data["goal"], "text": result["text"]}, namespace=data["memory"]
        )
    return result


async def _ask(data: Mapping[str, Any], context: AsyncContext, round_: int, question: Mapping[str, Any]) -> Never:
    """Add a call of the planner, and await it."""
    call: dict[str, Any] = {
        "id": f"{_name(context)}.ask-{round_}",
        "type": "gemini",
        "priority": PRIORITIES["high"],
        "data": {"agent": "planner", "tools": [], "schema": PLAN, **question, **tasks.of_model(data)},
    }
    added = await context.submit([call], step=f"ask-{round_}")
    raise Wait([added["first"]], {"round": round_})


async def _go_on(context: AsyncContext, added: Sequence[dict[str, Any]], step: str, stage: str) -> Never:
    """Add what comes next, and await all of it."""
    try:
        reply = await context.submit(added, step=step)
    except RequestRefused as refused:
        if refused.code in ("draining", "queue_full", "disk_full", "overloaded", "internal", "stale_attempt"):
            raise
        where = f" (at {refused.path})" if refused.path else ""
        raise Permanent(f"the daemon refuses what comes next: {refused.message}{where}", code=refused.code) from None
    raise Wait(range(reply["first"], reply["first"] + reply["count"]), {"stage": stage})


def _name(context: AsyncContext) -> str:
    """What the ids of its tasks begin with."""
    name = str(context.task if context.id is None else context.id)
    if len(name) > _MOST_ID and context.id is not None and context.type == "agent":
        return str(context.task)
    return name


def _bounds(data: Mapping[str, Any], catalogue: Mapping[str, Any]) -> tuple[Bounds, dict[str, str], dict[str, str]]:
    """What the plan may hold, the personas with their descriptions, and what is known of further types.

    Raises:
        Permanent: the task names what there is not.
    """
    personas = {agent["name"]: agent["description"] for agent in catalogue["agents"]}
    handlers = {handler["type"]: handler for handler in catalogue["handlers"]}
    agents = data.get("agents") or list(personas)
    types = data.get("types") or [name for name in DEFAULT_TYPES if name in handlers]
    for code, asked, known in (("unknown_agent", agents, personas), ("unknown_type", types, handlers)):
        if missing := [name for name in asked if name not in known]:
            raise Permanent(f"there is no {missing[0]!r}; there are: {', '.join(known)}", code=code)
    if parts := [name for name in types if name in NOT_PLANNED]:
        raise Permanent(f"{parts[0]!r} can't be a step of a plan: gemini and agent are", code="unknown_type")
    for name in data.get("tools") or ():
        if (why := tools.problem(name, catalogue["mcp"])) is not None:
            raise Permanent(why, code="unknown_tool")
    lists = {agent["name"]: agent.get("tools") for agent in catalogue["agents"]}
    bounds = Bounds(
        types,
        {name: lists[name] for name in agents},
        data.get("tools") or _default_tools(types, data.get("memory")),
        data.get("max_tasks", DEFAULT_TASKS),
        data.get("max_depth", DEFAULT_DEPTH),
        data.get("nesting", DEFAULT_NESTING) > 0,
        lambda name, value: _misfit(handlers[name]["schema"], value),
        named=bool(data.get("tools")),
        memory=data.get("memory"),
        workspace=data.get("workspace"),
        servers=catalogue["mcp"],
    )
    return bounds, personas, {name: str(handlers[name]["doc"]).partition("\n")[0] for name in types}


def _default_tools(types: Sequence[str], namespace: str | None) -> list[str]:
    """The tools of a plan for which none were named: what the types that it may use can do without them."""
    found = list(DEFAULT_TOOLS) if "tool" in types else []
    if "memory" in types:
        found += tools.MEMORY if namespace is None else [f"{name}@{namespace}" for name in tools.MEMORY]
    return found


def _misfit(schema: dict[str, Any], value: Mapping[str, Any]) -> tuple[str, str] | None:
    """Where and why data does not fit a type. What a template will be is not known yet."""
    import jsonschema_rs

    for error in jsonschema_rs.validator_for(schema).iter_errors(value):
        if isinstance(error.instance, str) and has_one(error.instance):
            continue
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
        hint = schema.get("x-hint") if not place and "oneOf" in error.message else None
        return place, str(hint or error.message)
    return None


async def _known(data: Mapping[str, Any], context: AsyncContext) -> list[tuple[str, str]]:
    """What the shared memory has that the task names."""
    if not data.get("memory"):
        return []
    items = await context.memory.list("", data["memory"], values=True, limit=_MOST_KNOWN)
    return [(item["key"], prompts.words(item["value"])) for item in items]
