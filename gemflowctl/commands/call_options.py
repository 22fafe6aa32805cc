"""What may be said of model calls wherever some are submitted: `--cache`, `--tier`, `--deadline`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from gemflowctl.commands.arguments import moment_or_duration

#: As `gemflowd.model.cache.WORDS` and `gemflowd.model.tiers.TIERS`; a test holds them together, these cost nothing to import.
WORDS: Final = ("auto", "on", "read", "write", "refresh", "off")
TIERS: Final = ("auto", "flex", "batch", "standard", "priority")
#: The names of the parameters.
NAMES: Final = ("tier", "deadline", "cache")

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option(
        "--tier",
        type=click.Choice(TIERS),
        help="The tier of service: flex and batch cost half and take longer, auto is the cheapest that fits priority and deadline.",
    ),
    click.option(
        "--deadline",
        metavar="TIME|WHEN",
        help="With a cheaper tier: when the answer is needed, from now on or as a moment; in time before it the standard tier is asked.",
    ),
    click.option(
        "--cache",
        type=click.Choice(WORDS),
        help="Whether an answer to the same request will do (read), and is kept for others (write): on is both, refresh asks anew"
        " and replaces. Else the daemon's setting `cache`: auto, which is on at temperature 0 and otherwise off.",
    ),
)


def call_options(command: Decorated) -> Decorated:
    """Give a command these options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def lasting_call_options(command: Decorated) -> Decorated:
    """Those of a task that is submitted again and again: a deadline would be that of the first."""
    for option in (_OPTIONS[2], _OPTIONS[0]):
        command = option(command)
    return command


def said(options: dict[str, Any]) -> dict[str, Any]:
    """What was given of them, as fields of the data.

    Raises:
        click.UsageError: malformed.
    """
    given = options.get("deadline")
    _, seconds = moment_or_duration("--deadline", given)
    deadline = given if seconds is None else seconds
    found = {"tier": options["tier"], "deadline": deadline, "cache": options["cache"]}
    return {name: value for name, value in found.items() if value is not None}


def say(task: dict[str, Any], words: dict[str, Any]) -> None:
    """Write it into a task that calls a model and does not say itself; others stay as they are."""
    if "task" in task and task.get("type") in (None, "gemini"):  # the short form has no room for it
        data = {"prompt": task.pop("task")}
        if "agent" in task:
            data["agent"] = task.pop("agent")
        task.update(type="gemini", data=data)
    if task.get("type") == "gemini" and isinstance(data := task.setdefault("data", {}), dict):
        for name, value in words.items():
            data.setdefault(name, value)


def say_to_one(task: dict[str, Any], words: dict[str, Any]) -> None:
    """The same for a task whose type was named beside them.

    Raises:
        click.UsageError: it calls no model.
    """
    if words and task.get("type") != "gemini":
        raise click.UsageError(f"--{next(iter(words))} goes with the type gemini")
    say(task, words)
