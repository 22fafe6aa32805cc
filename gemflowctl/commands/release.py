"""`gemflowctl release REF…`."""

from __future__ import annotations

import click

from gemflowctl.cli import REF, Command
from gemflowctl.session import Session


@click.command("release", cls=Command, epilog="gemflowctl release 42\ngemflowctl release f7")
@click.argument("refs", nargs=-1, required=True, type=REF, metavar="REF...")
@click.pass_obj
def command(session: Session, refs: tuple[str, ...]) -> None:
    """Let tasks that were held wait on as before."""
    with session.client() as client:
        reply = client.release(refs)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(f"{reply['released']} released, {reply['unchanged']} unchanged")
