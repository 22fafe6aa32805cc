"""`budget_list`, `budget_set`, `budget_raise`, `budget_remove`."""

from __future__ import annotations

from typing import Final

from gemflowd.model import facts, refs
from gemflowd.model.budget import Scope
from gemflowd.model.errors import Invalid, Refused
from gemflowd.model.facts import Reply
from gemflowd.model.refs import FlowRef, Ref
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk
from gemflowd.server.new_task import check_queue
from gemflowd.server.wishes import amounts, read_budget

_MOST: Final = 5_000
_QUEUE: Final = "queue:"


async def list_all(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Page, body)
    if not 1 <= request.limit <= _MOST:
        raise Invalid("invalid_value", f"must be from 1 to {_MOST}", "limit")
    found = await desk.ask(desk.questions.budgets, request.after, request.limit)
    reply({**found, "currency": desk.configuration.prices().currency})


async def set_budget(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.BudgetSet, body)
    scope, ref, queue = _target(request.of)
    wish = read_budget(request, "")
    if wish.money is not None:
        prices = desk.configuration.prices()
        for model in await desk.ask(desk.questions.waiting_models, scope, ref, queue):
            if prices.of(model) is None:
                message = f"tasks that wait call the model {model!r}, which has no price; give it one in prices.toml"
                raise Refused("no_price", f"{message} and `gemflowctl reload`, or set a budget in tokens", "money")
    action = None if request.action is None else wish.action
    desk.post(facts.ChangeBudget(reply, scope, ref, queue, wish.money, wish.tokens, action, by=False))


def raise_budget(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.BudgetRaise, body)
    scope, ref, queue = _target(request.of)
    money, tokens = amounts(request.money, request.tokens, "")
    desk.post(facts.ChangeBudget(reply, scope, ref, queue, money, tokens, None, by=True))


def remove(desk: Desk, body: Body, reply: Reply) -> None:
    scope, ref, queue = _target(messages.read(messages.BudgetOf, body).of)
    desk.post(facts.RemoveBudget(reply, scope, ref, queue))


def _target(of: object) -> tuple[Scope, Ref | None, str]:
    """Scope, reference to a task or flow, name of a queue."""
    for scope in (Scope.DAY, Scope.TOTAL):
        if of == scope.word:
            return scope, None, ""
    if isinstance(of, str) and of.startswith(_QUEUE):
        queue = of.removeprefix(_QUEUE)
        check_queue(queue, "of")
        return Scope.QUEUE, None, queue
    try:
        ref = refs.parse(of, "of")
    except Invalid:
        message = "write a task's number, f7, f7/some-id, queue:slow, day or total"
        raise Invalid("invalid_value", message, "of") from None
    if isinstance(ref, refs.TaskRange) and ref.first != ref.last:
        raise Invalid("invalid_value", "name one task, or a flow", "of")
    return (Scope.FLOW if isinstance(ref, FlowRef) else Scope.TASK), ref, ""
