"""`gemflowctl list`: tasks, filtered."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

import click

from gemflowctl.cli import Command
from gemflowctl.commands.arguments import json_or_text
from gemflowctl.session import Session
from gemflowctl.steps import Body
from gemflowctl.times import format_moment, format_seconds, parse_since
from gemflowd.model.states import STATES_BY_WORD


@click.command(
    "list",
    cls=Command,
    epilog="""
    gemflowctl list --state failed --since 2h
    gemflowctl list --flow f7 --all
    gemflowctl list --metadata customer=acme --metadata run=7
    gemflowctl list --type gemini --json | jq -r .number
    """,
)
@click.option("--state", type=click.Choice(list(STATES_BY_WORD)), metavar="STATE", help="Only tasks in this state.")
@click.option("--type", "type_", metavar="TYPE", help="Only tasks of this type.")
@click.option("--queue", metavar="NAME", help="Only tasks of this queue.")
@click.option("--flow", metavar="FLOW", help="Only tasks of this flow: f7 or 7.")
@click.option("--since", metavar="WHEN", help="Submitted since then: 2h, 30m, or ISO 8601 with a zone.")
@click.option(
    "--metadata",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only tasks whose metadata has this: JSON if it reads as such, else text. Several must all match.",
)
@click.option(
    "--limit", "-n", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many tasks."
)
@click.option("--all", "all_", is_flag=True, help="All of them, however many.")
@click.pass_obj
def command(
    session: Session,
    state: str | None,
    type_: str | None,
    queue: str | None,
    flow: str | None,
    since: str | None,
    pairs: tuple[str, ...],
    limit: int,
    all_: bool,
) -> None:
    """List tasks by number.

    With --json: one task on each line.
    """
    console = session.console
    number = _flow_number(flow)
    moment = _since(since)
    metadata = _metadata(pairs)
    with session.client() as client:
        # One more than is shown, to know whether there are more.
        tasks = client.list(
            state=state,
            type=type_,
            queue=queue,
            flow=number,
            since=moment,
            metadata=metadata,
            limit=None if all_ else limit + 1,
        )
        if console.as_json:
            console.json_lines(tasks if all_ else islice(tasks, limit))
            return
        found = list(tasks)
    shown = found if all_ else found[:limit]
    if not shown:
        console.note("no such tasks")
        return
    console.table(
        ["number", "id", "flow", "type", "state", "priority", "created", "took", "reason"], [*map(_row, shown)]
    )
    if len(found) > len(shown):
        console.note(f"there are more: these are the first {limit} (--limit, --all)")


def _row(task: Body) -> list[object]:
    started, finished = task.get("started"), task.get("finished")
    return [
        task["number"],
        task.get("id"),
        f"f{task['flow']}",
        task["type"],
        task["state"],
        task["priority"],
        format_moment(task["created"]),
        format_seconds(finished - started) if started and finished else None,
        task.get("reason"),
    ]


def _flow_number(flow: str | None) -> int | None:
    if flow is None:
        return None
    digits = flow.removeprefix("f")
    if not (digits.isascii() and digits.isdigit()):
        raise click.BadParameter(f"{flow!r} is not a flow; write f7", param_hint="--flow")
    return int(digits)


def _metadata(pairs: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--metadata")
        if key in found:
            raise click.BadParameter(f"{key!r} is named twice", param_hint="--metadata")
        found[key] = json_or_text(text)
    return found


def _since(since: str | None) -> float | None:
    try:
        return None if since is None else parse_since(since, time.time())
    except ValueError as problem:
        raise click.BadParameter(str(problem), param_hint="--since") from None
