"""`gemflowctl cancel REF…`."""

from __future__ import annotations

import click

from gemflowctl.cli import REF, Command
from gemflowctl.session import Session


@click.command("cancel", cls=Command, epilog="gemflowctl cancel 42\ngemflowctl cancel f7")
@click.argument("refs", nargs=-1, required=True, type=REF, metavar="REF...")
@click.pass_obj
def command(session: Session, refs: tuple[str, ...]) -> None:
    """Cancel tasks, or all tasks of a flow. What runs is asked to stop; what has ended stays as it is."""
    with session.client() as client:
        reply = client.cancel(refs)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(
            f"{reply['cancelled']} cancelled, {reply['requested']} asked to stop, {reply['unchanged']} had ended before"
        )
