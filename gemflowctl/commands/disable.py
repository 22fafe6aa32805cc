"""`gemflowctl disable`: one task at a time."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.switching import switch_execution
from gemflowctl.session import Session


@click.command("disable", cls=Command, epilog="gemflowctl disable\ngemflowctl parallel disable")
@click.pass_obj
def command(session: Session) -> None:
    """Run one task at a time, in order. What runs goes on, and the number of workers is remembered.

    It sets `enabled`, which is kept over restarts until `config reset enabled`. With --json: that setting.
    """
    switch_execution(session, enabled=False)
