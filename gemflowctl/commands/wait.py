"""`gemflowctl wait REF…`: until tasks have ended, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from gemflowctl.cli import DURATION, REF, Command
from gemflowctl.commands.status import counts
from gemflowctl.output.console import Console
from gemflowctl.output.progress import Bar
from gemflowctl.results import success
from gemflowctl.session import Session
from gemflowctl.steps import Body

if TYPE_CHECKING:
    from gemflowctl.client import Client


@click.command(
    "wait",
    cls=Command,
    epilog="""
    gemflowctl wait f7 && gemflowctl results f7
    gemflowctl wait 42-48 --any --timeout 10m
    """,
)
@click.argument("refs", nargs=-1, required=True, type=REF, metavar="REF...")
@click.option("--any", "any_", is_flag=True, help="Until one of them has ended, not all.")
@click.option("--timeout", type=DURATION, metavar="TIME", help="At most so long: 90, 90s, 10m, 2h.")
@click.pass_obj
def command(session: Session, refs: tuple[str, ...], any_: bool, timeout: float | None) -> int:
    """Wait until tasks and flows have ended.

    Exits with 0 when something succeeded and nothing failed, was quarantined or cancelled; with 1 otherwise; with 5 when
    the time is over (the tasks run on).
    """
    with session.client() as client:
        reply = wait_with_bar(session.console, client, refs, any_=any_, timeout=timeout)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(f"{reply['ended']} of {reply['total']} ended: {counts(reply['tasks'])}")
    return 0 if success(reply["tasks"]) else 1


def wait_with_bar(
    console: Console, client: Client, refs: tuple[str, ...], *, any_: bool = False, timeout: float | None = None
) -> Body:
    """Wait, with a bar on a terminal; the last answer of `wait`.

    Raises:
        WaitTimeout: the time is over.
    """
    with Bar(console, "waiting") as bar:
        return client.wait(refs, any_, timeout, progress=_progress(bar) if bar.shows else None)


def _progress(bar: Bar) -> Callable[[Body], object]:
    def update(reply: Body) -> None:
        failed = sum(reply["tasks"].get(state, 0) for state in ("failed", "quarantined"))
        running = reply["tasks"].get("running", 0)
        bar.update(reply["ended"], reply["total"], f"{running} running" + (f", {failed} failed" if failed else ""))

    return update
