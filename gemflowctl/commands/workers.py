"""`gemflowctl workers [N]`: the worker processes, and how many there shall be."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.output.console import Console
from gemflowctl.session import Session
from gemflowctl.steps import Bodies, Body
from gemflowctl.times import format_bytes, format_moment, format_seconds


@click.command("workers", cls=Command, epilog="gemflowctl workers\ngemflowctl workers 8")
@click.argument("count", required=False, metavar="[N]")
@click.pass_obj
def command(session: Session, count: str | None) -> None:
    """List the workers; with a number N, have N blocking workers from now on, also after a restart."""
    if count not in (None, "list") and not (count.isascii() and count.isdigit() and int(count) > 0):
        raise click.BadParameter(f"{count!r} is neither a number of workers, at least 1, nor `list`", param_hint="N")
    with session.client() as client:
        reply = client.workers(None if count in (None, "list") else int(count))
    if session.console.as_json:
        session.console.json(reply)
        return
    slots = ", ".join(f"{number} {kind}" for kind, number in reply["slots"].items())
    session.console.line(f"{reply['count']} blocking workers; slots: {slots}")
    if reply["workers"]:
        session.console.line()
        show_workers(session.console, reply["workers"])


def show_workers(console: Console, workers: Bodies) -> None:
    """A table of workers."""
    console.table(
        ["name", "kind", "pid", "state", "memory", "active", "done", "since", "lag", "tasks"],
        [
            [
                worker["name"],
                worker["kind"],
                worker["pid"],
                worker["state"],
                format_bytes(worker.get("rss_bytes")),
                worker.get("active"),
                worker.get("done"),
                format_moment(worker.get("started")),
                _lag(worker),
                " ".join(map(str, worker.get("tasks") or [])) or None,
            ]
            for worker in workers
        ],
    )


def _lag(worker: Body) -> str | None:
    """For how long its loop stands still, and which task keeps it."""
    if worker.get("lag") is None:
        return None
    by = worker.get("blocked_by")
    return format_seconds(worker["lag"]) + (f" by {by}" if by is not None else "")
