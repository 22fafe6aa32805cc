"""`gemflowctl schedule pause NAME`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.schedule.showing import tell
from gemflowctl.session import Session


@click.command("pause", cls=Command, epilog="gemflowctl schedule pause nightly")
@click.argument("name")
@click.pass_obj
def command(session: Session, name: str) -> None:
    """Let a schedule start nothing until it is resumed. What runs goes on."""
    with session.client() as client:
        schedule = client.schedule_pause(name)
    if session.console.as_json:
        session.console.json(schedule)
    else:
        tell(session.console, schedule)
