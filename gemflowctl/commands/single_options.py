"""The options of one task by itself, where one is submitted at once: in `submit TYPE` and `prompt`. For several they make no sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from gemflowctl.cli import DURATION
from gemflowctl.commands.arguments import moment_of, moment_or_duration
from gemflowctl.refs import dependencies

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option("--id", "id_", metavar="ID", help="Your name for the task."),
    click.option(
        "--after", multiple=True, metavar="REF[:ON]", help="Wait for a task; ON is success (default), failure or done."
    ),
    click.option(
        "--when", metavar="CEL", help="Once what it waits for has ended: run only if this is true, else skip it."
    ),
    click.option("--delay", type=DURATION, metavar="TIME", help="Not before so long from now: 90, 90s, 10m, 2h."),
    click.option("--at", metavar="WHEN", help="Not before this moment, ISO 8601 with a zone."),
    click.option("--expires", metavar="WHEN|TIME", help="Skipped if it has not started by then, or after so long."),
    click.option("--key", metavar="KEY", help="A unique key: not submitted while another task has it."),
    click.option(
        "--key-ttl", type=DURATION, metavar="TIME", help="The key is taken for so long, whatever becomes of the task."
    ),
    click.option(
        "--key-conflict",
        type=click.Choice(["return", "reject", "replace"]),
        help="When the key is taken: name the task that has it (the default), be refused, or cancel that one if it waits.",
    ),
)
#: The names of their parameters.
NAMES: Final = ("id_", "after", "when", "delay", "at", "expires", "key", "key_ttl", "key_conflict")


def single_options(command: Decorated) -> Decorated:
    """Give a command these options, in this order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def single_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a task that they mean; None where an option was not given.

    Raises:
        click.UsageError: malformed.
    """
    expires, expires_in = moment_or_duration("--expires", options["expires"])
    return {
        "id": options["id_"],
        "deps": [dep for after in options["after"] for dep in dependencies(after)] or None,
        "run_at": None if options["at"] is None else moment_of("--at", options["at"]),
        "expires": expires,
        "expires_in": expires_in,
        **{name: options[name] for name in ("when", "delay", "key", "key_ttl", "key_conflict")},
    }


def only_for(context: click.Context, names: tuple[str, ...], why: str) -> None:
    """Refuse options that were given and don't go with the rest.

    Raises:
        click.UsageError: the first of them, and `why`.
    """
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name in names and not (value is None or value is False or value == ()):  # 0 is something to say
            raise click.UsageError(f"{parameter.opts[0]} {why}")
