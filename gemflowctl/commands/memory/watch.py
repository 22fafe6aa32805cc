"""`gemflowctl memory watch [PREFIX]`."""

from __future__ import annotations

import sys

import click

from gemflowctl.cli import Command
from gemflowctl.commands.events import one_line
from gemflowctl.commands.memory.options import namespace_option
from gemflowctl.output import plain
from gemflowctl.session import Session
from gemflowctl.steps import Body
from gemflowctl.times import format_moment


@click.command(
    "watch",
    cls=Command,
    epilog="gemflowctl memory watch\ngemflowctl memory watch agents/ --namespace research --json",
)
@click.argument("prefix", required=False, default="", metavar="[KEY-PREFIX]")
@namespace_option
@click.pass_obj
def command(session: Session, prefix: str, namespace: str | None) -> None:
    """Show changes of keys as they come, without missing any, until interrupted.

    With --json: one event on each line.
    """
    with session.client() as client:
        for event in client.events(["memory"]):
            if event["topic"] != "missed" and not _wanted(event, namespace or "default", prefix):
                continue
            if session.console.as_json:
                session.console.json(event)
            else:
                sys.stdout.write((one_line(event) if event["topic"] == "missed" else _change(event)) + "\n")
                sys.stdout.flush()


def _wanted(event: Body, namespace: str, prefix: str) -> bool:
    return event["namespace"] == namespace and str(event["key"]).startswith(prefix)


def _change(event: Body) -> str:
    what = "deleted" if event.get("deleted") else f"version {event['version']}"
    return f"{format_moment(event['at'])}  {plain.line(event['key'])}  {what}"
