"""`gemflowctl pause [QUEUE]`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.switching import switch_queue
from gemflowctl.session import Session


@click.command("pause", cls=Command, epilog="gemflowctl pause\ngemflowctl pause slow")
@click.argument("queue", required=False, metavar="[QUEUE]")
@click.pass_obj
def command(session: Session, queue: str | None) -> None:
    """Let a queue start nothing until `resume`; `default` if none is named. What runs goes on."""
    switch_queue(session, queue, paused=True)
