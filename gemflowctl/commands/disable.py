"""`gemflowctl disable`: one task at a time."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session


@click.command("disable", cls=Command, epilog="gemflowctl disable\ngemflowctl parallel disable")
@click.pass_obj
def command(session: Session) -> None:
    """Run one task at a time, in order. What runs goes on.

    It sets `enabled`, which is kept over restarts until `config reset enabled`. With --json: that setting.
    """
    with session.client() as client:
        settings = client.config({"enabled": False})
    (setting,) = [setting for setting in settings if setting["key"] == "enabled"]
    if session.console.as_json:
        session.console.json(setting)
    else:
        session.console.line(f"parallel execution is {'enabled' if setting['value'] else 'disabled'}")
