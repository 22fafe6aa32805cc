"""What a plan will cost, about, and whether its flow's budget has that left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.agent.plan import Step

if TYPE_CHECKING:
    from gemflowd.worker.context import AsyncContext

#: Characters of a prompt for a token, and tokens of what is said around a description.
_CHARACTERS_A_TOKEN: Final = 4
_AROUND: Final = 300
_OUTPUT: Final = 1024
#: Questions of a model that may use tools.
_WITH_TOOLS: Final = 3


async def estimate(data: Mapping[str, Any], steps: Sequence[Step], context: AsyncContext) -> dict[str, Any]:
    """Calls, tokens and money of a plan and its writer; `money` None: a model has no price.

    An agent among the steps counts as a planner and a writer, and a model with tools as three questions: what they will need is not known.
    """
    output = int(context.settings.get("budget_output_tokens", _OUTPUT))
    around = _AROUND + len(data["goal"]) // _CHARACTERS_A_TOKEN
    calls = []
    for step in steps:
        prompt = around + len(step.description) // _CHARACTERS_A_TOKEN + output * len(step.dependencies)
        calls += [(prompt, output)] * (_WITH_TOOLS if step.tools else {"gemini": 1, "agent": 2}.get(step.type, 0))
    calls.append((around + output * len(steps), output))
    asked = [{"model": data.get("model"), "prompt_tokens": prompt, "output_tokens": said} for prompt, said in calls]
    return {"calls": len(asked), **await context.estimate(asked)}


def over(cost: Mapping[str, Any]) -> str | None:
    """Why the flow's budget does not have that left; None: it has, or there is none that holds anything."""
    budget = cost.get("budget")
    if budget is None or budget["action"] == "warn":
        return None
    for kind in ("tokens", "money"):
        limit, wanted = budget[kind], cost[kind]
        if limit is None or wanted is None:
            continue
        left = max(0, limit - budget["spent"][kind] - budget["assumed"][kind])
        if wanted > left:
            return f"the plan would use about {wanted:g} {kind}, and of the flow's budget {left:g} are left: plan less"
    return None
