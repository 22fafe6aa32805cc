"""`gemflowctl memory get KEY`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.memory.options import namespace_option
from gemflowctl.output import json, plain
from gemflowctl.session import Session


@click.command(
    "get", cls=Command, epilog="gemflowctl memory get model\ngemflowctl memory get model --json | jq .version"
)
@click.argument("key")
@namespace_option
@click.pass_obj
def command(session: Session, key: str, namespace: str | None) -> None:
    """Print the value of a key: text as it is, all else as JSON.

    Exits with 4 when there is no such key. With --json: the value with its version, times and writer.
    """
    with session.client() as client:
        found = client.memory_get(key, namespace=namespace)
    if session.console.as_json:
        session.console.json(found)
    else:
        value = found["value"]
        session.console.line(plain.text(value if isinstance(value, str) else json.dumps(value)))
