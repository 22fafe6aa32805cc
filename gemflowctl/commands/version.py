"""`gemflowctl version`: this client's version, without asking a daemon (`ping` tells the daemon's)."""

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session
from gemflowd.protocol.versions import DAEMON_VERSION, PROTOCOL_VERSION


@click.command("version", cls=Command, epilog="gemflowctl version\ngemflowctl version --json")
@click.pass_obj
def command(session: Session) -> None:
    """Show the version of this program and of the protocol it speaks."""
    if session.console.as_json:
        session.console.json({"version": DAEMON_VERSION, "protocol": PROTOCOL_VERSION})
    else:
        session.console.line(f"gemflowctl {DAEMON_VERSION} (protocol {PROTOCOL_VERSION})")
