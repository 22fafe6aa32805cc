"""`gemflowctl enable`: tasks run in parallel."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session


@click.command("enable", cls=Command, epilog="gemflowctl enable\ngemflowctl parallel enable")
@click.pass_obj
def command(session: Session) -> None:
    """Run tasks in parallel, as many as the profile and the queues allow.

    It sets `enabled`, which is kept over restarts until `config reset enabled`. With --json: that setting.
    """
    with session.client() as client:
        settings = client.config({"enabled": True})
    (setting,) = [setting for setting in settings if setting["key"] == "enabled"]
    if session.console.as_json:
        session.console.json(setting)
    else:
        session.console.line(f"parallel execution is {'enabled' if setting['value'] else 'disabled'}")
