"""`gemflowctl memory delete KEY`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.memory.options import namespace_option, version_option
from gemflowctl.output import plain
from gemflowctl.session import Session


@click.command(
    "delete", cls=Command, epilog="gemflowctl memory delete model\ngemflowctl memory delete model --if-version 3"
)
@click.argument("key")
@namespace_option
@version_option
@click.pass_obj
def command(session: Session, key: str, namespace: str | None, version: int | None) -> None:
    """Delete a key. That there is none is no error."""
    with session.client() as client:
        deleted = client.memory_delete(key, namespace=namespace, version=version)
    if session.console.as_json:
        session.console.json({"deleted": deleted})
    else:
        session.console.line(f"{plain.line(key)} deleted" if deleted else f"there was no key {plain.line(key)}")
