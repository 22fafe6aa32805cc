"""The options that describe a task wherever one is made: in `submit`, `prompt` and `schedule add`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from gemflowctl.cli import DURATION
from gemflowctl.commands.arguments import json_object

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_INPUT: Final = (
    click.option("--data", metavar="JSON|@FILE", help="The task's input, a JSON object."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="One value of the input: JSON if it reads as such, else text; a.b=1 nests.",
    ),
)
_TERMS: Final = (
    click.option("--priority", type=int, help="Higher runs first; by convention 0 to 10, 5 if not given."),
    click.option("--queue", metavar="NAME", help="The queue."),
    click.option("--timeout", type=DURATION, metavar="TIME", help="For one attempt."),
    click.option("--retries", type=click.IntRange(0, 1000), metavar="N", help="Tries after the first."),
    click.option(
        "--retry-on",
        multiple=True,
        metavar="CLASS=N",
        help="Tries after the first for errors of this class or code, such as TimeoutError=10.",
    ),
    click.option(
        "--backoff", type=DURATION, metavar="TIME", help="Before the first retry, about; it doubles each time."
    ),
    click.option(
        "--resource",
        "resources",
        multiple=True,
        metavar="NAME=AMOUNT",
        help="What it needs while it runs, of what the setting `resources` names: gpu=1.",
    ),
    click.option(
        "--memory-mb",
        type=click.IntRange(min=1),
        metavar="MB",
        help="A memory cap of its own; it then has a worker for itself.",
    ),
    click.option("--estimate", type=DURATION, metavar="TIME", help="How long it is expected to run."),
    click.option("--metadata", metavar="JSON", help="A JSON object that is kept and shown."),
)
#: The names of their parameters.
NAMES: Final = (
    "data",
    "settings",
    "priority",
    "queue",
    "timeout",
    "retries",
    "retry_on",
    "backoff",
    "resources",
    "memory_mb",
    "estimate",
)


def task_options(command: Decorated) -> Decorated:
    """Give a command these options, in this order."""
    command = term_options(command)
    for option in reversed(_INPUT):
        command = option(command)
    return command


def term_options(command: Decorated) -> Decorated:
    """The same without the input, where the command itself says what that is."""
    for option in reversed(_TERMS):
        command = option(command)
    return command


def fields_of(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a task that they mean, beside its data; None where an option was not given.

    Raises:
        click.UsageError: malformed.
    """
    return {
        **{
            name: options[name]
            for name in ("priority", "queue", "timeout", "retries", "backoff", "memory_mb", "estimate")
        },
        "retry_on": _amounts("--retry-on", options["retry_on"], whole=True),
        "resources": _amounts("--resource", options["resources"], whole=False),
        "metadata": None if options["metadata"] is None else json_object("--metadata", options["metadata"]),
    }


def _amounts(option: str, pairs: Sequence[str], *, whole: bool) -> dict[str, int | float] | None:
    found: dict[str, int | float] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        amount = _number(text)
        if not name or not equals or amount is None or amount < 0 or (whole and not isinstance(amount, int)):
            what = "CLASS=N, N a number of tries" if whole else "NAME=AMOUNT, AMOUNT a number"
            raise click.BadParameter(f"{pair!r} is not {what}", param_hint=option)
        if name in found:
            raise click.BadParameter(f"{name!r} is named twice", param_hint=option)
        found[name] = amount
    return found or None


def _number(text: str) -> int | float | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    # NaN compares as nothing; infinities are refused where tasks are checked.
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None
