"""`gemflowctl reload`: the daemon reads its settings again."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session


@click.command("reload", cls=Command, epilog="gemflowctl reload")
@click.pass_obj
def command(session: Session) -> None:
    """Let the daemon read its settings again, and replace its workers one by one. What runs goes on.

    It is what SIGHUP and `systemctl reload` do, and says what changed, or every problem: then nothing was changed.
    What was changed at run time stays on top.
    """
    with session.client() as client:
        reply = client.reload()
    console = session.console
    if console.as_json:
        console.json(reply)
        return
    console.line(f"changed: {', '.join(reply['changed']) or 'nothing'}")
    if reply["pending"]:
        console.line(f"takes effect when the daemon is started again: {', '.join(reply['pending'])}")
    console.note(f"{reply['restarting']} workers are replaced")
