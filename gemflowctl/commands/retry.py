"""`gemflowctl retry REF…`."""

from __future__ import annotations

import click

from gemflowctl.cli import REF, Command
from gemflowctl.session import Session


@click.command("retry", cls=Command, epilog="gemflowctl retry 42\ngemflowctl retry f7 --downstream")
@click.argument("refs", nargs=-1, required=True, type=REF, metavar="REF...")
@click.option("--downstream", is_flag=True, help="Also what depended on them and did not succeed.")
@click.pass_obj
def command(session: Session, refs: tuple[str, ...], downstream: bool) -> None:
    """Put tasks that ended without success back into the queue; of a flow, all of them."""
    with session.client() as client:
        reply = client.retry(refs, downstream=downstream)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(f"{reply['retried']} go back to the queue, {reply['unchanged']} unchanged")
