"""`gemflowctl resume [QUEUE]`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.output import plain
from gemflowctl.session import Session


@click.command("resume", cls=Command, epilog="gemflowctl resume\ngemflowctl resume slow")
@click.argument("queue", required=False, metavar="[QUEUE]")
@click.pass_obj
def command(session: Session, queue: str | None) -> None:
    """Let a paused queue go on; `default` if none is named."""
    with session.client() as client:
        reply = client.resume(queue)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(f"queue {plain.line(reply['queue'])} is {'paused' if reply['paused'] else 'not paused'}")
