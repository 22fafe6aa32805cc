"""`gemflowctl edit REF… --priority N`."""

from __future__ import annotations

import click

from gemflowctl.cli import REF, Command
from gemflowctl.session import Session


@click.command("edit", cls=Command, epilog="gemflowctl edit 42 --priority 9\ngemflowctl edit f7 --priority -1")
@click.argument("refs", nargs=-1, required=True, type=REF, metavar="REF...")
@click.option("--priority", type=int, required=True, metavar="N", help="Higher runs first; by convention 0 to 10.")
@click.pass_obj
def command(session: Session, refs: tuple[str, ...], priority: int) -> None:
    """Give tasks that have not ended another priority. What runs keeps it for its next attempt."""
    with session.client() as client:
        reply = client.edit(refs, priority=priority)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(f"{reply['edited']} have priority {priority} now, {reply['unchanged']} unchanged")
