"""`gemflowctl schedule remove NAME`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.output import plain
from gemflowctl.session import Session


@click.command("remove", cls=Command, epilog="gemflowctl schedule remove nightly")
@click.argument("name")
@click.pass_obj
def command(session: Session, name: str) -> None:
    """Remove a schedule. Flows that it has started stay."""
    with session.client() as client:
        reply = client.schedule_remove(name)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(f"schedule {plain.line(reply['name'])} removed")
