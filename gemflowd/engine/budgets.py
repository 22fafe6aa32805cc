"""Budgets in a turn: which ones tasks fall under, whether an attempt may start, what becomes of it where not; and what people set.

What does not fit its flow's budget gets a lane of the flow's own, so that nobody waits behind it. A lane whose budget is used up is
not looked at, as that of a paused queue: nothing is rewritten, however many tasks there are. Only a task with a budget of its own is
held by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from gemflowd.core import budgets, machine
from gemflowd.core.turn import CursorKind, Turn
from gemflowd.engine import estimates
from gemflowd.engine.rows import Rows
from gemflowd.model.budget import (
    ADDING,
    NOTHING,
    Action,
    Amount,
    Budget,
    BudgetState,
    NewBudget,
    Scope,
    Target,
    name_of,
)
from gemflowd.model.errors import Refused
from gemflowd.model.facts import ChangeBudget, NewTask, RemoveBudget, Submit
from gemflowd.model.lane import Lane
from gemflowd.model.prices import MOST_MONEY, MOST_TOKENS, model_of, money_of
from gemflowd.model.states import FlowState, State
from gemflowd.model.task import BUDGETED, Flow, Hold, Task

log = logging.getLogger("gemflow.queue")

#: Why a task is held by its own budget.
_USED_UP: Final = "its budget is used up"


class Asked(NamedTuple):
    """What is to be reserved for an attempt, and in which budgets."""

    budgets: list[Budget]
    amount: Amount
    allows: int = 0  # which calls it is like


# What tasks fall under


def need(rows: Rows, tasks: Iterable[Task]) -> None:
    """Know the budgets of these tasks and of their flows."""
    accounts = rows.turn.accounts
    if accounts.has_tasks:
        wanted = [task.number for task in tasks if task.flags & BUDGETED and task.number not in accounts.tasks]
        for budget in rows.store.budgets.of(Scope.TASK, wanted) if wanted else ():
            accounts.put(budget)
    if accounts.has_flows:
        flows = [flow for flow in {task.flow for task in tasks} if flow not in accounts.flows]
        if flows:
            accounts.flows.update(dict.fromkeys(flows))
            for budget in rows.store.budgets.of(Scope.FLOW, flows):
                accounts.put(budget)


def of_flow(rows: Rows, flow: int) -> Budget | None:
    """A flow's budget."""
    accounts = rows.turn.accounts
    if not accounts.has_flows:
        return None
    if flow not in accounts.flows:
        accounts.flows[flow] = next(iter(rows.store.budgets.of(Scope.FLOW, [flow])), None)
    return accounts.flows[flow]


# Starting


def admit(rows: Rows, task: Task, lane: Lane, key: tuple[int, float, int]) -> Asked | None:
    """What is to be reserved for an attempt of a task that was taken from its window.

    Returns:
        None: it may not start now, and is where it belongs until it may.
    """
    turn = rows.turn
    model = model_of(lane.key.bucket)
    its = budgets.those_of(turn, task, lane) if model is not None else []
    if model is None or not its:
        return Asked([], NOTHING)
    wanted = estimates.wanted(rows, task, model)
    if not wanted.priced and any(_of_others_too(it) for it in its):
        # One of a model that others fall under is not stopped for it: they have prices.
        machine.hold(turn, task, Hold.BUDGET, f"the model {model} has no price; when it has one, release the task")
        return None
    blocker = budgets.in_the_way(turn, its, wanted, model)
    trying = None if blocker else budgets.tried(turn, its, model, lambda *about: _calls(rows, *about))
    if blocker is None and trying is None:
        return Asked(its, wanted.amount, wanted.allows)
    if blocker is not None and blocker.state is BudgetState.OPEN:
        assert blocker.action is Action.CANCEL, blocker
        _cancel(rows, task, blocker)
    elif blocker is not None and blocker.scope is Scope.TASK:
        machine.hold(turn, task, Hold.BUDGET, blocker.reason or _USED_UP)
    elif Scope.FLOW in (it.scope for it in (blocker, trying) if it) and lane.key.gate != task.flow:
        set_apart(turn, task, lane)
    else:
        rows.memory.windows[lane.number].push(key)
    return None


def shut(rows: Rows, lane: Lane) -> bool:
    """Whether a budget keeps all of a lane from starting."""
    return budgets.shut(rows.turn, lane, lambda *about: _calls(rows, *about))


def _calls(rows: Rows, model: str, budget: Budget) -> bool:
    """Whether a call of the model is in flight under a budget."""
    running, lanes = rows.memory.running, rows.turn.lanes
    return any(
        budget.number in it.budgets and task in running and model_of(lanes[running[task].lane].key.bucket) == model
        for task, it in rows.turn.accounts.reservations.items()
    )


def _of_others_too(budget: Budget) -> bool:
    return (
        budget.money is not None and budget.action is not Action.WARN and budget.scope not in (Scope.TASK, Scope.FLOW)
    )


def set_apart(turn: Turn, task: Task, lane: Lane) -> None:
    """Into a lane of its flow's own."""
    key = replace(lane.key, gate=task.flow)
    own = turn.lane_by_key.get(key) or machine.new_lane(turn, key, shift=lane.shift)
    task.lane = own.number
    task.tag += lane.shift - own.shift
    turn.changed[task.number] = task
    turn.became_ready.append(task)


def _cancel(rows: Rows, task: Task, budget: Budget) -> None:
    """The rest of a flow; the task alone where it has the budget."""
    turn = rows.turn
    if budget.scope is Scope.TASK:
        machine.cancel(turn, task)
        budgets.tell(turn, budget, "cancelled", task=task.number)
        return
    flow = turn.flows[task.flow]
    if flow.state == FlowState.OPEN:
        turn.move_flow(flow, FlowState.ACTIVE)  # it takes no more chunks
    flow.cancelled = True
    turn.changed_flows[flow.number] = flow
    turn.cursor(CursorKind.CANCEL, flow.number)
    budgets.tell(turn, budget, "cancelled", flow=flow.number)


def log_news(turn: Turn) -> None:
    """What people should know although they did not ask."""
    currency = turn.rules.prices.currency
    for what, budget in turn.budget_news:
        if what in ("held", "warned", "cancelled"):
            say = {
                "held": f"holds: {budget.reason or 'it is used up'}; `gemflowctl budget raise` goes on",
                "warned": "is used up; its tasks go on, as its action `warn` says",
                "cancelled": "is used up; what is left is cancelled, as its action `cancel` says",
            }[what]
            log.warning("the budget of %s %s (%s)", budget.name, say, _figures(budget, currency))


def _figures(budget: Budget, currency: str) -> str:
    parts = []
    if budget.money is not None:
        parts.append(f"{money_of(budget.used.money):.6g} of {money_of(budget.money):.6g} {currency}")
    if budget.tokens is not None:
        parts.append(f"{budget.used.tokens} of {budget.tokens} tokens")
    return ", ".join(parts)


# With a submission


def check_prices(rows: Rows, flow: Flow | None, fact: Submit) -> None:
    """Raises: Refused: `no_price`, a task falls under a money budget and its model has no price."""
    turn, accounts = rows.turn, rows.turn.accounts
    if not (accounts.active or fact.budget or fact.task_budgets):
        return
    found = of_flow(rows, flow.number) if flow is not None else fact.budget
    under = found is not None and found.money is not None
    wide = {key for key, budget in accounts.wide.items() if budget.money is not None}
    priced: dict[str, bool] = {}
    for index, new in enumerate(fact.tasks):
        model = model_of(new.lane.bucket)
        if model is None or priced.get(model):
            continue
        counted = under or (new.budget is not None and new.budget.money is not None)
        if not counted and not wide & {(Scope.QUEUE, new.lane.queue), (Scope.DAY, 0), (Scope.TOTAL, 0)}:
            continue
        priced[model] = turn.rules.prices.of(model) is not None
        if not priced[model]:
            raise Refused("no_price", no_price(model), f"tasks[{index}].data.model")


def no_price(model: str) -> str:
    return (
        f"the model {model!r} has no price, so its cost can't be held against a budget in money;"
        " give it one in prices.toml and `gemflowctl reload`, or set a budget in tokens"
    )


def with_flow(rows: Rows, flow: Flow, wish: NewBudget | None) -> None:
    """A new flow's budget."""
    if wish is not None:
        _add(rows, [_budget(rows.turn, Scope.FLOW, flow.number, wish)])


def with_tasks(rows: Rows, tasks: Sequence[Task], new: Sequence[NewTask]) -> None:
    """The budgets of new tasks."""
    found = []
    for task, its in zip(tasks, new, strict=True):
        if its.budget is not None:
            task.flags |= BUDGETED
            found.append(_budget(rows.turn, Scope.TASK, task.number, its.budget))
    _add(rows, found)


def _budget(turn: Turn, scope: Scope, target: Target, wish: NewBudget) -> Budget:
    number = turn.accounts.next_number
    turn.accounts.next_number += 1
    return Budget(number, scope, target, wish.money, wish.tokens, wish.action, day=budgets.today(turn))


def _add(rows: Rows, found: Sequence[Budget]) -> None:
    rows.store.budgets.add(found)
    for budget in found:
        rows.turn.accounts.put(budget)


# What people set


def change(rows: Rows, fact: ChangeBudget) -> dict[str, Any]:
    """Set a budget, or raise one.

    Raises:
        Refused: `not_found`, `conflict`, `invalid_value`.
    """
    turn = rows.turn
    target = _target(rows, fact)
    budget = _existing(rows, fact.scope, target)
    if fact.by:
        if budget is None:
            message = f"{name_of(fact.scope, target)} has no budget that could be raised; `budget set` gives it one"
            raise Refused("not_found", message, "of")
        money, tokens = _raised(budget.money, fact.money, "money"), _raised(budget.tokens, fact.tokens, "tokens")
    else:
        money = fact.money if fact.money is not None or budget is None else budget.money
        tokens = fact.tokens if fact.tokens is not None or budget is None else budget.tokens
    if budget is None:
        budget = _new_one(rows, fact.scope, target, NewBudget(money, tokens, fact.action or Action.HOLD))
    else:
        budget.money, budget.tokens, budget.action = money, tokens, fact.action or budget.action
    budget.by_setting = False
    _let_go(rows, budget)
    budgets.tell(turn, budget, "raised" if fact.by else "set")
    return {**budget.body(), "currency": turn.rules.prices.currency}


def _raised(limit: int | None, by: int | None, field: str) -> int | None:
    if by is None:
        return limit
    if limit is None:
        raise Refused("invalid_value", f"this budget has no limit of {field} that could be raised", field)
    most = MOST_MONEY if field == "money" else MOST_TOKENS
    if limit + by > most:
        raise Refused("invalid_value", "that is more than a budget can have", field)
    return limit + by


def remove(rows: Rows, fact: RemoveBudget) -> dict[str, Any]:
    """Take a budget away; what it held goes on. That of the day falls back to the settings.

    Raises:
        Refused: `not_found`, `conflict`.
    """
    target = _target(rows, fact)
    budget = _existing(rows, fact.scope, target)
    if budget is None:
        raise Refused("not_found", f"{name_of(fact.scope, target)} has no budget", "of")
    if budget.by_setting:
        raise Refused("conflict", "this budget comes from the settings; `config` changes it", "of")
    _take_away(rows, budget)
    budgets.tell(rows.turn, budget, "removed")
    if budget.scope is Scope.DAY:
        follow_settings(rows)
    return {"of": budget.name, "removed": True}


def _take_away(rows: Rows, budget: Budget) -> None:
    _let_go(rows, budget)
    rows.turn.changed_budgets.pop(budget.number, None)
    rows.store.budgets.remove(budget.scope, budget.target)
    rows.turn.accounts.forget(budget)


def follow_settings(rows: Rows) -> None:
    """The day's budget as the settings have it, unless it was set at run time."""
    turn = rows.turn
    wish, budget = turn.rules.day_budget, turn.accounts.wide.get((Scope.DAY, 0))
    if budget is None and wish is not None:
        budget = _new_one(rows, Scope.DAY, 0, wish)
        budget.by_setting = True
        budgets.changed(turn, budget)
    elif budget is not None and budget.by_setting and wish is None:
        _take_away(rows, budget)
    elif budget is not None and budget.by_setting and wish != (budget.money, budget.tokens, budget.action):
        assert wish is not None
        budget.money, budget.tokens, budget.action = wish
        _let_go(rows, budget)


def prices_changed(rows: Rows) -> None:
    """What was held because a model had no price is tried again."""
    accounts = rows.turn.accounts
    rows.store.budgets.reopen_unpriced()
    known = [*accounts.wide.values(), *accounts.flows.values(), *accounts.tasks.values()]
    for budget in known:
        if budget is not None and budget.reason is not None:
            _let_go(rows, budget)


def _new_one(rows: Rows, scope: Scope, target: Target, wish: NewBudget) -> Budget:
    """A budget for what may have used something already."""
    budget = _budget(rows.turn, scope, target, wish)
    budget.spent, budget.unpriced = rows.store.budgets.used(scope, target, budget.day)
    _add(rows, [budget])
    estimates.reserve_in_flight(rows, budget)
    return budget


def _let_go(rows: Rows, budget: Budget) -> None:
    """Whatever is in the way of what it holds is tried again."""
    budget.state, budget.reason, budget.warned = BudgetState.OPEN, None, False
    budgets.changed(rows.turn, budget)
    if budget.scope is Scope.TASK:
        task = rows.tasks([int(budget.target)]).get(int(budget.target))
        if task is not None and task.state is State.HELD and task.hold == Hold.BUDGET:
            machine.release(rows.turn, task)


def _target(rows: Rows, fact: ChangeBudget | RemoveBudget) -> Target:
    """Raises: Refused: `not_found`; `invalid_value`, it is nothing that a budget could be for."""
    if fact.ref is None:
        return fact.queue if fact.scope is Scope.QUEUE else 0
    try:
        tasks, flows = rows.resolve([fact.ref])
    except Refused as refused:
        refused.path = "of"
        raise
    if flows:
        if fact.scope is not Scope.FLOW:
            raise Refused("invalid_value", "that is a flow, not a task", "of")
        return flows[0].number
    if fact.scope is not Scope.TASK or len(tasks) != 1:
        raise Refused("invalid_value", "name one task, or a flow", "of")
    (task,) = tasks
    if task.type in ADDING and isinstance(fact, ChangeBudget):
        message = f"task {task.number} calls no model itself, those that it adds do: give the budget to its flow, f{task.flow}"
        raise Refused("invalid_value", message, "of")
    if not task.flags & BUDGETED and isinstance(fact, ChangeBudget):
        task.flags |= BUDGETED
        rows.turn.changed[task.number] = task
    return task.number


def _existing(rows: Rows, scope: Scope, target: Target) -> Budget | None:
    accounts = rows.turn.accounts
    if scope is Scope.FLOW:
        return of_flow(rows, int(target))
    if scope is Scope.TASK:
        need(rows, rows.tasks([int(target)]).values())
        return accounts.tasks.get(int(target))
    if scope is Scope.DAY:
        budgets.begin_day(rows.turn)
    return accounts.wide.get((scope, target))
