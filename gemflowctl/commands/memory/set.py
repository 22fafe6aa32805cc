"""`gemflowctl memory set KEY VALUE`."""

from __future__ import annotations

import click

from gemflowctl.cli import DURATION, Command
from gemflowctl.commands.arguments import json_or_text, read_text
from gemflowctl.commands.memory.options import namespace_option
from gemflowctl.output import plain
from gemflowctl.session import Session


@click.command(
    "set",
    cls=Command,
    epilog="""
    gemflowctl memory set model gemini-2.5-flash
    gemflowctl memory set limits '{"daily": 500}' --namespace research --ttl 1d
    gemflowctl memory set prompt @prompt.txt
    gemflowctl memory set leader me --if-version 0
    """,
)
@click.argument("key")
@click.argument("value", metavar="VALUE|@FILE|-")
@namespace_option
@click.option("--ttl", type=DURATION, metavar="TIME", help="It is gone after so long.")
@click.option(
    "--if-version",
    "version",
    type=click.IntRange(min=0),
    metavar="N",
    help="Only if the key has exactly this version; 0: only if there is no such key.",
)
@click.pass_obj
def command(
    session: Session, key: str, value: str, namespace: str | None, ttl: float | None, version: int | None
) -> None:
    """Set a key. VALUE is JSON if it reads as such, else text; @FILE is what a file holds, `-` the standard input.

    Quote it as JSON to be sure of text: '"42"'. Exits with 4 when the version is another one.
    """
    if value == "-" or value.startswith("@"):
        value = read_text("VALUE", value.removeprefix("@"))
    with session.client() as client:
        reply = client.memory_set(key, json_or_text(value), namespace=namespace, ttl=ttl, version=version)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(f"{plain.line(reply['key'])} has version {reply['version']} now")
