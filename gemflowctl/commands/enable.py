"""`gemflowctl enable`: tasks run in parallel."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.switching import switch_execution
from gemflowctl.session import Session


@click.command("enable", cls=Command, epilog="gemflowctl enable\ngemflowctl parallel enable")
@click.pass_obj
def command(session: Session) -> None:
    """Run tasks in parallel, as many as the profile and the queues allow.

    It sets `enabled`, which is kept over restarts until `config reset enabled`. With --json: that setting.
    """
    switch_execution(session, enabled=True)
