"""`gemflowctl cache list`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session
from gemflowctl.times import format_bytes, format_moment


@click.command("list", cls=Command, epilog="gemflowctl cache list\ngemflowctl cache list --limit 1000 --json")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@click.pass_obj
def command(session: Session, limit: int) -> None:
    """List what is in the cache, what was used last first. Questions are not kept, only a hash of each.

    With --json: one entry on each line.
    """
    console = session.console
    with session.client() as client:
        items = client.cache_list(limit)
    if console.as_json:
        console.json_lines(items)
    elif not items:
        console.note("the cache is empty")
    else:
        console.table(
            ["hash", "model", "stored", "used", "size"],
            [[one["key"][:12], one["model"], format_moment(one["stored"]), one["hits"], format_bytes(one["bytes"])]
             for one in items],
        )  # fmt: skip
