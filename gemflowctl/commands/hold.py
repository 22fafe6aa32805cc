"""`gemflowctl hold REF…`."""

from __future__ import annotations

import click

from gemflowctl.cli import REF, Command
from gemflowctl.session import Session


@click.command("hold", cls=Command, epilog="gemflowctl hold 42\ngemflowctl hold f7")
@click.argument("refs", nargs=-1, required=True, type=REF, metavar="REF...")
@click.pass_obj
def command(session: Session, refs: tuple[str, ...]) -> None:
    """Keep tasks that wait from starting, until `release`. What is added to a held flow is held, too; what runs goes on."""
    with session.client() as client:
        reply = client.hold(refs)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(f"{reply['held']} held, {reply['unchanged']} unchanged")
