"""`gemflowctl db check`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.output import plain
from gemflowctl.session import Session
from gemflowctl.times import format_seconds


@click.command("check", cls=Command, epilog="gemflowctl db check\ngemflowctl db check --json | jq -r .problems[]")
@click.pass_obj
def command(session: Session) -> int:
    """Check the whole database while the daemon works. It may take minutes.

    Exits with 1 when something is wrong with it.
    """
    console = session.console
    with session.client() as client:
        reply = client.db_check()
    if console.as_json:
        console.json(reply)
    elif reply["ok"]:
        console.line(f"the database is sound (checked in {format_seconds(reply['seconds'])})")
    else:
        for problem in reply["problems"]:
            console.line(plain.line(problem))
        console.note("the database is damaged")
    return 0 if reply["ok"] else 1
