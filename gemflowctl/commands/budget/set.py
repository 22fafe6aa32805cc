"""`gemflowctl budget set OF [AMOUNT]`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.budget.showing import sentence, target_and_amount
from gemflowctl.session import Session


@click.command(
    "set",
    cls=Command,
    epilog="""
    gemflowctl budget set f7 5.00
    gemflowctl budget set flow f7 5.00 --action hold
    gemflowctl budget set 42 --tokens 20000
    gemflowctl budget set day 20 --action warn
    gemflowctl budget set queue night 3.50
    """,
)
@click.argument("words", nargs=-1, required=True, metavar="OF [AMOUNT]")
@click.option("--tokens", type=click.IntRange(min=0), metavar="N", help="Tokens: of prompts, answers and thoughts.")
@click.option(
    "--action",
    type=click.Choice(["hold", "warn", "cancel"]),
    help="What becomes of calls that don't fit: they are held (the default), go on with a warning, or the flow is cancelled.",
)
@click.pass_obj
def command(session: Session, words: tuple[str, ...], tokens: int | None, action: str | None) -> None:
    """Set what may be used: AMOUNT of money, --tokens, or both. What was used already counts.

    OF is a task's number, f7, f7/some-id, `queue NAME`, `day` or `total`. A limit that is not named stays as it is. Exits with 4
    when a model has no price.
    """
    of, money = target_and_amount(words)
    if money is None and tokens is None:
        raise click.UsageError("say how much: an AMOUNT, --tokens, or both")
    with session.client() as client:
        reply = client.budget_set(of, money, tokens=tokens, action=action)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(sentence(reply, reply["currency"]))
