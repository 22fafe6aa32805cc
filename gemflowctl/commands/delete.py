"""`gemflowctl delete REF…`."""

from __future__ import annotations

import click

from gemflowctl.cli import REF, Command
from gemflowctl.session import Session


@click.command("delete", cls=Command, epilog="gemflowctl delete f7\ngemflowctl delete 42-48")
@click.argument("refs", nargs=-1, required=True, type=REF, metavar="REF...")
@click.pass_obj
def command(session: Session, refs: tuple[str, ...]) -> None:
    """Delete flows or tasks that have ended, with results, logs and history. It can't be undone.

    Refused when something has not ended, or a task of another flow still waits for it. Numbers are never given again.
    """
    with session.client() as client:
        reply = client.delete(refs)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(f"{reply['deleted']} deleted")
