"""`gemflowctl schedule show NAME`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.schedule.showing import show
from gemflowctl.session import Session


@click.command("show", cls=Command, epilog="gemflowctl schedule show nightly")
@click.argument("name")
@click.pass_obj
def command(session: Session, name: str) -> None:
    """Show a schedule: its times, its last run, and the task that it submits."""
    with session.client() as client:
        schedule = client.schedule_show(name)
    if session.console.as_json:
        session.console.json(schedule)
    else:
        show(session.console, schedule)
