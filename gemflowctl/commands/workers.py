"""`gemflowctl workers [N|list|restart]`: the worker processes, how many there shall be, and fresh ones."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.output.console import Console
from gemflowctl.session import Session
from gemflowctl.steps import Bodies, Body
from gemflowctl.times import format_bytes, format_moment, format_seconds


@click.command("workers", cls=Command, epilog="gemflowctl workers\ngemflowctl workers 8\ngemflowctl workers restart")
@click.argument("what", required=False, default="list", metavar="[N|list|restart]")
@click.pass_obj
def command(session: Session, what: str) -> None:
    """List the workers; with a number N, have N blocking workers from now on, also after a restart.

    Those that are too many finish what they do first. `restart` replaces all workers by fresh ones, one after the
    other, without touching what runs.
    """
    console = session.console
    count = int(what) if what.isascii() and what.isdigit() else 0
    if not count and what not in ("list", "restart"):
        problem = f"{what!r} is neither a number of workers, at least 1, nor `list` or `restart`"
        raise click.BadParameter(problem, param_hint="N")
    if what == "restart":
        _restart(session)
        return
    with session.client() as client:
        reply = client.workers(count or None)
    if console.as_json:
        console.json(reply)
        return
    slots = ", ".join(f"{number} {kind}" for kind, number in reply["slots"].items())
    origin = f" ({reply['origin']})" if "origin" in reply else ""
    console.line(f"{reply['count']} blocking workers{origin}; slots: {slots}")
    if reply["workers"]:
        console.line()
        show_workers(console, reply["workers"])


def _restart(session: Session) -> None:
    with session.client() as client:
        reply = client.restart_workers()
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(f"{reply['restarting']} workers are replaced")


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
