"""`gemflowctl resume [QUEUE]`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.switching import switch_queue
from gemflowctl.session import Session


@click.command("resume", cls=Command, epilog="gemflowctl resume\ngemflowctl resume slow")
@click.argument("queue", required=False, metavar="[QUEUE]")
@click.pass_obj
def command(session: Session, queue: str | None) -> None:
    """Let a paused queue go on; `default` if none is named."""
    switch_queue(session, queue, paused=False)
