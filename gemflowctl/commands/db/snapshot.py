"""`gemflowctl db snapshot FILE`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.output import plain
from gemflowctl.session import Session
from gemflowctl.times import format_bytes, format_seconds


@click.command("snapshot", cls=Command, epilog="gemflowctl db snapshot /var/backups/gemflow.db")
@click.argument("file")
@click.pass_obj
def command(session: Session, file: str) -> None:
    """Write a consistent copy of the database into a FILE that does not exist yet, while the daemon works.

    The daemon writes it, on its machine and with its rights. It may take minutes.
    """
    with session.client() as client:
        reply = client.db_snapshot(file)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(
            f"{plain.line(reply['path'])} written: {format_bytes(reply['bytes'])} in {format_seconds(reply['seconds'])}"
        )
