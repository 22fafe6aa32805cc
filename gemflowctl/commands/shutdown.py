"""`gemflowctl shutdown`: stop the daemon."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session


@click.command("shutdown", cls=Command, epilog="gemflowctl shutdown\ngemflowctl shutdown --no-drain")
@click.option(
    "--drain/--no-drain", default=True, show_default=True, help="Let what runs end first, up to `drain_timeout`."
)
@click.pass_obj
def command(session: Session, drain: bool) -> None:
    """Stop the daemon. What waits is kept; what runs ends, or goes back to the queue and runs again after the next start."""
    with session.client() as client:
        reply = client.shutdown(drain=drain)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.note(f"gemflowd is {reply['state']}")
