"""`gemflowctl memory list [PREFIX]`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import click

from gemflowctl.cli import Command
from gemflowctl.commands.memory.options import namespace_option
from gemflowctl.output import json, plain
from gemflowctl.output.console import Console
from gemflowctl.session import Session
from gemflowctl.steps import Bodies, Body
from gemflowctl.times import format_bytes, format_moment


@click.command(
    "list",
    cls=Command,
    epilog="""
    gemflowctl memory list
    gemflowctl memory list agents/ --namespace research --values
    gemflowctl memory list --namespaces
    """,
)
@click.argument("prefix", required=False, default="", metavar="[PREFIX]")
@namespace_option
@click.option("--values", is_flag=True, help="Also the values.")
@click.option("--namespaces", is_flag=True, help="The namespaces instead.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many keys.")
@click.option("--all", "all_", is_flag=True, help="All of them, however many.")
@click.pass_obj
def command(
    session: Session, prefix: str, namespace: str | None, values: bool, namespaces: bool, limit: int, all_: bool
) -> None:
    """List the keys that begin with PREFIX, in order.

    With --json: one key (or namespace) on each line.
    """
    console = session.console
    if namespaces and (prefix or namespace is not None or values):
        raise click.UsageError("--namespaces goes with no PREFIX, --namespace or --values")
    with session.client() as client:
        if namespaces:
            _show_namespaces(console, client.memory_namespaces())
            return
        # One more than is shown, to know whether there are more.
        items = client.memory_list(prefix, namespace=namespace, values=values, limit=None if all_ else limit + 1)
        _show_keys(console, items, values, None if all_ else limit)


def _show_keys(console: Console, items: Iterator[Body], values: bool, limit: int | None) -> None:
    if console.as_json:
        console.json_lines(islice(items, limit))
        return
    found = list(items)
    shown = found[:limit]
    if not shown:
        console.note("there are no such keys")
        return
    more = ["value"] if values else []
    console.table(
        ["key", "version", "size", "updated", "expires", "writer", *more], [_row(item, values) for item in shown]
    )
    if len(found) > len(shown):
        console.note(f"there are more: these are the first {limit} (--limit, --all)")


def _row(item: Body, values: bool) -> list[object]:
    row = [
        item["key"],
        item["version"],
        format_bytes(item.get("bytes")),
        format_moment(item.get("updated")),
        format_moment(item.get("expires")),
        _writer(item.get("writer")),
    ]
    return [*row, plain.line(json.dumps(item.get("value")), 60)] if values else row


def _writer(writer: Any) -> str | None:
    if not isinstance(writer, dict):
        return None
    return f"task {writer['task']}" if writer.get("task") is not None else str(writer.get("client") or "a client")


def _show_namespaces(console: Console, namespaces: Bodies) -> None:
    if console.as_json:
        console.json_lines(namespaces)
    elif not namespaces:
        console.note("the shared memory is empty")
    else:
        console.table(
            ["namespace", "keys", "size"],
            [[one["namespace"], one["keys"], format_bytes(one["bytes"])] for one in namespaces],
        )
