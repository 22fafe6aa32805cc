"""`gemflowctl drain [--off]`: start nothing more, or go on."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session


@click.command("drain", cls=Command, epilog="gemflowctl drain\ngemflowctl drain --off")
@click.option("--off", is_flag=True, help="Start tasks again.")
@click.pass_obj
def command(session: Session, off: bool) -> None:
    """Let the daemon start nothing more, of no queue. What runs ends; what is submitted is kept and waits.

    It lasts until `drain --off` or the daemon's next start. To stop the daemon use `shutdown`.
    """
    with session.client() as client:
        reply = client.drain(off=off)
    if session.console.as_json:
        session.console.json(reply)
    elif reply["drain"]:
        session.console.line(f"nothing is started until `gemflowctl drain --off`; {reply['running']} running")
    else:
        session.console.line(f"tasks are started; {reply['running']} running")
