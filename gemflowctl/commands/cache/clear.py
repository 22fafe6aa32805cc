"""`gemflowctl cache clear`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session
from gemflowctl.times import format_bytes


@click.command("clear", cls=Command, epilog="gemflowctl cache clear")
@click.pass_obj
def command(session: Session) -> None:
    """Forget all answers. Results of tasks stay, and so do the figures of `cache stats`.

    With --json: {entries, bytes}, what was forgotten.
    """
    with session.client() as client:
        gone = client.cache_clear()
    if session.console.as_json:
        session.console.json(gone)
    else:
        session.console.line(
            f"{gone['entries']} answer{'' if gone['entries'] == 1 else 's'} forgotten ({format_bytes(gone['bytes'])})"
        )
