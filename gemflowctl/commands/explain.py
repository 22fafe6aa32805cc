"""`gemflowctl explain REF`: why a task is not running."""

from __future__ import annotations

import click

from gemflowctl.cli import REF, Command
from gemflowctl.output import plain
from gemflowctl.reasons import sentence
from gemflowctl.session import Session


@click.command(
    "explain", cls=Command, epilog="gemflowctl explain 42\ngemflowctl explain f7/research-a --json | jq .reasons[0]"
)
@click.argument("ref", type=REF)
@click.pass_obj
def command(session: Session, ref: str) -> None:
    """Say why a task is not running: what it waits for, or what else stands in its way, the nearest first."""
    console = session.console
    with session.client() as client:
        reply = client.explain(ref)
    if console.as_json:
        console.json(reply)
        return
    first, *others = [plain.line(sentence(reason)) for reason in reply["reasons"]] or ["nothing is known of it"]
    console.line(f"task {reply['number']} (f{reply['flow']}): {console.state(reply['state'])}; {first}")
    for other in others:
        console.line(f"  and {other}")
