"""The options with which a submission asks for a budget of its flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from gemflowctl.commands.budget.showing import amount_of
from gemflowctl.steps import Body

F = TypeVar("F", bound=Callable[..., Any])


def budget_options(command: F) -> F:
    """`--budget`, `--budget-tokens`, `--budget-action`."""
    for option in (
        click.option(
            "--budget-action",
            type=click.Choice(["hold", "warn", "cancel"]),
            help="With a budget: calls that don't fit are held (the default), go on with a warning, or are cancelled.",
        ),
        click.option("--budget-tokens", type=click.IntRange(min=0), metavar="N", help="Tokens that the flow may use."),
        click.option("--budget", metavar="AMOUNT", help="What the flow's model calls may cost, such as 2.50."),
    ):
        command = option(command)
    return command


def budget_of(options: Mapping[str, Any]) -> Body | None:
    """The field `budget` of a submission.

    Raises:
        click.UsageError: the options are no budget.
    """
    money, tokens, action = options["budget"], options["budget_tokens"], options["budget_action"]
    if money is None and tokens is None:
        if action is not None:
            raise click.UsageError("--budget-action goes with --budget or --budget-tokens")
        return None
    fields = {"money": None if money is None else amount_of(money), "tokens": tokens, "action": action}
    return {name: value for name, value in fields.items() if value is not None}
