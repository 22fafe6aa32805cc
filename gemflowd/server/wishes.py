"""How a budget is asked for: with a submission, with a task, or by itself."""

from __future__ import annotations

from gemflowd.model.budget import ACTIONS, Action, NewBudget
from gemflowd.model.errors import Invalid
from gemflowd.model.prices import MOST_TOKENS, nano_of
from gemflowd.protocol import messages


def read_budget(wish: messages.Budget | messages.BudgetSet, path: str) -> NewBudget:
    """A budget as it is asked for.

    Raises:
        Invalid: with the field's path.
    """
    money, tokens = amounts(wish.money, wish.tokens, path)
    action = Action.HOLD if wish.action is None else ACTIONS.get(wish.action)
    if action is None:
        raise Invalid("invalid_value", f"must be one of {', '.join(ACTIONS)}", messages.join(path, "action"))
    return NewBudget(money, tokens, action)


def amounts(money: float | None, tokens: int | None, path: str) -> tuple[int | None, int | None]:
    """Billionths, and tokens; at least one of them. Raises: Invalid."""
    if money is None and tokens is None:
        raise Invalid("missing_field", "give `money`, `tokens` or both", messages.join(path, "money"))
    nano = None
    if money is not None:
        try:
            nano = nano_of(money)
        except ValueError as error:
            raise Invalid("invalid_value", str(error), messages.join(path, "money")) from None
    if tokens is not None and not 0 <= tokens <= MOST_TOKENS:
        raise Invalid("invalid_value", f"must be from 0 to {MOST_TOKENS}", messages.join(path, "tokens"))
    return nano, tokens
