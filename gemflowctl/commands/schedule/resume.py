"""`gemflowctl schedule resume NAME`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.schedule.showing import tell
from gemflowctl.session import Session


@click.command("resume", cls=Command, epilog="gemflowctl schedule resume nightly")
@click.argument("name")
@click.pass_obj
def command(session: Session, name: str) -> None:
    """Let a schedule go on. Runs that were due meanwhile are not made up for."""
    with session.client() as client:
        schedule = client.schedule_resume(name)
    if session.console.as_json:
        session.console.json(schedule)
    else:
        tell(session.console, schedule)
