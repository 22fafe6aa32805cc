"""`gemflowctl profile [NAME]`: how much the daemon does at a time."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session

_NAMES = ["conservative", "balanced", "performance", "maximum"]


@click.command("profile", cls=Command, epilog="gemflowctl profile\ngemflowctl profile performance")
@click.argument("name", required=False, type=click.Choice(_NAMES))
@click.pass_obj
def command(session: Session, name: str | None) -> None:
    """Show the profile in use, or change it, at once and for later starts; `config reset profile` undoes that.

    What something stronger overrides (a file, the environment, `config set`) is shown as shadowed.
    """
    console = session.console
    with session.client() as client:
        reply = client.profile(name)
    if console.as_json:
        console.json(reply)
        return
    origin = f" ({reply['origin']})" if "origin" in reply else ""
    console.pairs({"profile": f"{reply['profile']}{origin}", **reply["values"]})
    for shadowed in reply.get("shadowed", []):
        console.note(f"{shadowed['key']} is {shadowed['value']} instead, by {shadowed['origin']}")
