"""What a budget looks like to a person, and how one is named on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from gemflowctl.output import plain
from gemflowctl.steps import Body

_ALONE: Final = ("day", "total")
#: Words that may stand in front of what they say anyway.
_KINDS: Final = ("flow", "task")


def target_and_amount(words: Sequence[str]) -> tuple[str, float | None]:
    """Read `f7 5.00`, `flow f7 5.00`, `queue night`, `day 20`.

    Raises:
        click.UsageError: they are none of that.
    """
    left = list(words)
    first = left.pop(0) if left else ""
    if first in _KINDS and left:
        first = left.pop(0)
    elif first == "queue" and left:
        first = f"queue:{left.pop(0)}"
    if not first or first in (*_KINDS, "queue"):
        raise click.UsageError("say what the budget is for: a task's number, f7, `queue NAME`, `day` or `total`")
    if not left:
        return first, None
    if len(left) > 1:
        raise click.UsageError(f"there is one AMOUNT; what is {left[1]!r}?")
    return first, amount_of(left[0])


def amount_of(text: str) -> float:
    """An amount of money; a `+` in front is nothing but a word.

    Raises:
        click.UsageError: it is none.
    """
    try:
        amount = float(text.removeprefix("+"))
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= 1e9:
        raise click.UsageError(f"{text!r} is no amount of money, such as 2.50")
    return amount


def money(amount: float | None, currency: str = "") -> str | None:
    """An amount with as many digits as it has, at least two behind the point."""
    if amount is None:
        return None
    whole, _, behind = f"{amount:.9f}".partition(".")
    return f"{whole}.{behind.rstrip('0').ljust(2, '0')}" + (f" {currency}" if currency else "")


def used(budget: Body, currency: str) -> str:
    """`1.25 of 2.50 USD, 9000 of 10000 tokens`; what is in flight is told apart."""
    parts = []
    for field, unit in (("money", currency), ("tokens", "tokens")):
        limit = budget.get(field)
        if limit is None:
            continue
        show = money if field == "money" else str
        spent = budget["spent"][field] + budget["assumed"][field]
        more = f" (+{show(budget['reserved'][field])} in flight)" if budget["reserved"][field] else ""
        parts.append(f"{show(spent)}{more} of {show(limit)} {unit}".rstrip())
    return ", ".join(parts)


def state(budget: Body) -> str:
    """`held`, or `open` and the like; why, where it is not for being used up."""
    return str(budget["state"]) + (f": {plain.line(budget['reason'])}" if budget.get("reason") else "")


def sentence(budget: Body, currency: str) -> str:
    """One line."""
    return f"the budget of {plain.line(budget['of'])} is {state(budget)}, {used(budget, currency)}, action {budget['action']}"
