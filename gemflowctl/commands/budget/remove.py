"""`gemflowctl budget remove OF`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.budget.showing import target_and_amount
from gemflowctl.output import plain
from gemflowctl.session import Session


@click.command("remove", cls=Command, epilog="gemflowctl budget remove f7\ngemflowctl budget remove queue night")
@click.argument("words", nargs=-1, required=True, metavar="OF")
@click.pass_obj
def command(session: Session, words: tuple[str, ...]) -> None:
    """Take a budget away. What it held goes on."""
    of, money = target_and_amount(words)
    if money is not None:
        raise click.UsageError("`remove` takes no AMOUNT")
    with session.client() as client:
        reply = client.budget_remove(of)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(f"the budget of {plain.line(reply['of'])} is removed")
