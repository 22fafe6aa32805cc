"""`gemflowctl queues [QUEUE [--limit N|none]]`: the queues, and how many tasks of each run at a time."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.status import counts
from gemflowctl.session import Session


@click.command(
    "queues",
    cls=Command,
    epilog="""
    gemflowctl queues
    gemflowctl queues slow --limit 4
    gemflowctl queues slow --limit none
    """,
)
@click.argument("queue", required=False, metavar="[QUEUE]")
@click.option("--limit", metavar="N|none", help="How many tasks of QUEUE run at a time; `none`: no limit of its own.")
@click.pass_obj
def command(session: Session, queue: str | None, limit: str | None) -> None:
    """List the queues, or one; with --limit set how many of its tasks run at a time.

    With --json: one queue on each line.
    """
    console = session.console
    if limit is not None and queue is None:
        raise click.UsageError("--limit is for one QUEUE; say which")
    most = _limit(limit)
    with session.client() as client:
        if limit is not None and queue is not None:
            client.queue_limit(queue, most)
        found = [one for one in client.queues() if queue in (None, one["queue"])]
    if console.as_json:
        console.json_lines(found)
    elif not found:
        console.note(
            "there is no such queue yet; one appears with its first task" if queue else "there are no queues yet"
        )
    else:
        console.table(
            ["queue", "state", "limit", "tasks"],
            [
                [one["queue"], "paused" if one["paused"] else "open", one["limit"], counts(one.get("tasks") or {})]
                for one in found
            ],
        )


def _limit(text: str | None) -> int | None:
    if text is None or text.lower() == "none":
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise click.BadParameter(f"{text!r} is neither a number of tasks, at least 1, nor `none`", param_hint="--limit")
    return int(text)
