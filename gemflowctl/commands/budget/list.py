"""`gemflowctl budget list`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.budget.showing import state, used
from gemflowctl.session import Session


@click.command("list", cls=Command, epilog="gemflowctl budget list\ngemflowctl budget list --json | jq .spent")
@click.pass_obj
def command(session: Session) -> None:
    """List all budgets, and how far they are used.

    With --json: one budget on each line.
    """
    console = session.console
    with session.client() as client:
        reply = client.budgets()
    if console.as_json:
        console.json_lines(reply["budgets"])
    elif not reply["budgets"]:
        console.note("there are no budgets")
    else:
        console.table(
            ["of", "state", "used", "action", "origin"],
            [[it["of"], state(it), used(it, reply["currency"]), it["action"], it["origin"]] for it in reply["budgets"]],
        )
