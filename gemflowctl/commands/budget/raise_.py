"""`gemflowctl budget raise OF [+AMOUNT]`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.budget.showing import sentence, target_and_amount
from gemflowctl.session import Session


@click.command(
    "raise",
    cls=Command,
    epilog="gemflowctl budget raise f7 +5\ngemflowctl budget raise day +0.50\ngemflowctl budget raise 42 --tokens 10000",
)
@click.argument("words", nargs=-1, required=True, metavar="OF [+AMOUNT]")
@click.option("--tokens", type=click.IntRange(min=1), metavar="N", help="By so many tokens.")
@click.pass_obj
def command(session: Session, words: tuple[str, ...], tokens: int | None) -> None:
    """Raise a budget by AMOUNT, by --tokens, or both. What it held goes on."""
    of, money = target_and_amount(words)
    if money is None and tokens is None:
        raise click.UsageError("say by how much: an AMOUNT, --tokens, or both")
    with session.client() as client:
        reply = client.budget_raise(of, money, tokens=tokens)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(sentence(reply, reply["currency"]))
