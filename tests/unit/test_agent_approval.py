"""When the agent takes its plan for approved: a person has released its task, and it was not retried since."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gemflowd.handlers.agent.handler import agent
from gemflowd.handlers.errors import Again, HandlerError, Wait
from gemflowd.worker.context import AsyncContext

STEP = {"id": "one", "description": "do it", "type": "gemini", "agent": None, "dependencies": [], "priority": "high"}


def attempt(note: Any, agains: int) -> HandlerError:
    """How an attempt ends that finds this note, after so many attempts that ended as `again` since it was submitted or retried."""

    async def ask(op: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"first": 7, "count": len(body["tasks"])}

    plan = {"agent.plan": {"tasks": [STEP]}}
    context = AsyncContext(1, 1, "agent", "agent", 1, 30.0, plan, {}, lambda *_: None, _ask=ask)
    context.note, context.agains = note, agains
    with pytest.raises(HandlerError) as caught:
        asyncio.run(agent({"goal": "g", "approve": True}, context))
    return caught.value


def test_a_plan_is_approved_by_the_attempt_that_a_release_has_let_begin() -> None:
    asked = attempt({"stage": "planned"}, 1)
    assert isinstance(asked, Again)
    assert asked.instead is not None
    assert asked.instead.hold is not None
    ran = attempt(asked.instead.note, 2)
    assert isinstance(ran, Wait)
    assert ran.instead is not None
    assert ran.instead.note == {"stage": "ran"}


def test_a_plan_that_was_refused_is_asked_about_anew_when_it_is_retried() -> None:
    asked = attempt({"stage": "planned"}, 1)
    assert asked.instead is not None
    again = attempt(asked.instead.note, 0)
    assert (again.code, again.instead) == ("approval", asked.instead)


def test_a_plan_that_ran_is_not_asked_about_twice() -> None:
    assert isinstance(attempt({"stage": "ran"}, 0), Wait)
