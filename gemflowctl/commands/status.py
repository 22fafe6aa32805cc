"""`gemflowctl status [REF…]`: the daemon, or tasks and flows, in one look."""

from __future__ import annotations

import click

from gemflowctl.cli import REF, Command
from gemflowctl.commands.budget.showing import state, used
from gemflowctl.output.console import Console
from gemflowctl.session import Session
from gemflowctl.steps import Body
from gemflowctl.times import format_moment, format_progress, format_seconds


@click.command(
    "status",
    cls=Command,
    epilog="""
    gemflowctl status
    gemflowctl status 42 f7
    gemflowctl status f7 --json | jq .tasks
    """,
)
@click.argument("refs", nargs=-1, type=REF, metavar="[REF]...")
@click.pass_obj
def command(session: Session, refs: tuple[str, ...]) -> None:
    """Show how the daemon is doing, or what state tasks and flows are in.

    With --json and REFs: one object for each.
    """
    console = session.console
    with session.client() as client:
        reply = client.status(refs or None)
    if console.as_json:
        console.json_lines(reply["items"] if refs else [reply])
    elif refs:
        for index, item in enumerate(reply["items"]):
            if index:
                console.line()
            show_item(console, item)
    else:
        _show_daemon(console, reply)


def counts(tasks: dict[str, int]) -> str:
    """Counts by state in one line, those that are zero left out."""
    return ", ".join(f"{count} {state}" for state, count in tasks.items() if count) or "none"


def _show_daemon(console: Console, status: Body) -> None:
    workers, slots = status.get("workers", {}), status.get("slots", {})
    limits = [f"{limit['bucket']} until {format_moment(limit['until'])}" for limit in status.get("paused_limits", [])]
    console.pairs(
        {
            "gemflowd": status["version"],
            "state": status["state"] + (" (starts nothing until `drain --off`)" if status.get("drain") else ""),
            "pid": status["pid"],
            "up for": format_seconds(status["uptime"]),
            "profile": status.get("profile"),
            "parallel": None if status.get("enabled", True) else "disabled: one task at a time",
            "tasks": counts(status["tasks"]),
            "flows": counts(status["flows"]),
            "workers": ", ".join(f"{count} {kind}" for kind, count in workers.items()) or None,
            "slots": ", ".join(f"{count} {kind}" for kind, count in slots.items()) or None,
            "sleeping limits": "; ".join(limits) or None,
            "held budgets": ", ".join(budget["of"] for budget in status.get("held_budgets", [])) or None,
        }
    )


def show_item(console: Console, item: Body) -> None:
    """What `status` says of a task or flow, for a person."""
    if item["kind"] == "flow":
        console.pairs(
            {
                "flow": f"f{item['flow']}",
                "name": item.get("name"),
                "state": item["state"] + (" (being put in order)" if item.get("ordering") else ""),
                "submission": item.get("submission"),
                "created": format_moment(item.get("created")),
                "finished": format_moment(item.get("finished")),
                "tasks": f"{item['total']}: {counts(item['tasks'])}",
                "budget": budget_line(item.get("budget")),
            }
        )
    else:
        console.pairs(task_pairs(item))


def budget_line(budget: Body | None) -> str | None:
    """How far a budget is used, for a person."""
    return None if budget is None else f"{state(budget)}, {used(budget, '')}, action {budget['action']}"


def task_pairs(task: Body) -> dict[str, object]:
    """What `list` says of a task, for a person."""
    return {
        "task": task["number"],
        "id": task.get("id"),
        "flow": f"f{task['flow']}" if task.get("flow") is not None else None,
        "type": task.get("type"),
        "state": task["state"],
        "progress": format_progress(task.get("progress")),
        "reason": task.get("reason"),
        "priority": task.get("priority"),
        "queue": task.get("queue"),
        "created": format_moment(task.get("created")),
        "started": format_moment(task.get("started")),
        "finished": format_moment(task.get("finished")),
        "attempts": task.get("attempts"),
        "worker": task.get("worker"),
        "memory cap": f"{task['memory_mb']} MB" if task.get("memory_mb") else None,
    }
