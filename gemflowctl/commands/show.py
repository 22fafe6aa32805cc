"""`gemflowctl show REF`: everything about one task or flow."""

from __future__ import annotations

from typing import Any

import click

from gemflowctl.cli import REF, Command
from gemflowctl.commands.budget.showing import money
from gemflowctl.commands.status import budget_line, show_item, task_pairs
from gemflowctl.output import json, plain
from gemflowctl.output.console import Console
from gemflowctl.session import Session
from gemflowctl.steps import Body
from gemflowctl.times import format_bytes, format_moment, format_seconds


@click.command(
    "show",
    cls=Command,
    epilog="""
    gemflowctl show 42
    gemflowctl show f7/research-a
    gemflowctl show 42 --json | jq .result
    """,
)
@click.argument("ref", type=REF)
@click.pass_obj
def command(session: Session, ref: str) -> None:
    """Show all that is known of a task: its data, dependencies, attempts and outcome. Or of a flow."""
    console = session.console
    with session.client() as client:
        found = client.show(ref)
    if console.as_json:
        console.json(found)
    elif found.get("kind") == "flow":
        show_item(console, found)
    else:
        _show_task(console, found)


def _show_task(console: Console, task: Body) -> None:
    console.pairs(
        {
            **task_pairs(task),
            "timeout": format_seconds(task["timeout"]) if task.get("timeout") else None,
            "retries": task.get("retries"),
            "due": format_moment(task["due"]) if task.get("due") else None,
            "when": task.get("when"),
            "expires": format_moment(task["expires"]) if task.get("expires") else None,
            "key": task.get("key"),
            "resources": ", ".join(f"{name}={amount:g}" for name, amount in (task.get("resources") or {}).items())
            or None,
            "budget": budget_line(task.get("budget")),
            "waits for": ", ".join(map(_dependency, task.get("deps") or [])) or None,
            "needed by": ", ".join(str(number) for number in (task.get("dependents") or [])[:50]) or None,
        }
    )
    _show_value(console, "data", task.get("data"))
    _show_value(console, "metadata", task.get("metadata"))
    _show_attempts(console, task.get("attempts_log") or [])
    if "result" in task:
        _show_value(console, "result", task["result"])
    if task.get("error"):
        _show_value(console, "error", task["error"])


def _dependency(dep: Body) -> str:
    name = f"{dep['number']} ({dep['id']})" if dep.get("id") is not None else str(dep["number"])
    return f"{name} {dep.get('on', 'success')}: {dep.get('state')}"


def _show_value(console: Console, name: str, value: Any) -> None:
    if value in (None, {}, []):
        return
    console.line()
    console.line(f"{name}:")
    # Newlines inside strings are escapes in JSON, so those here are only layout.
    console.line(plain.text(json.dumps(value, indent=2)))


def _show_attempts(console: Console, attempts: list[Body]) -> None:
    if not attempts:
        return
    console.line()
    console.table(
        ["attempt", "worker", "started", "took", "outcome", "peak", "tokens", "cost", "error"],
        [
            [
                attempt["number"],
                attempt.get("worker"),
                format_moment(attempt.get("started")),
                format_seconds(attempt.get("seconds")),
                attempt.get("outcome"),
                format_bytes(attempt["peak_kb"] * 1000) if attempt.get("peak_kb") else None,
                *_usage(attempt.get("usage")),
                _error(attempt.get("error")),
            ]
            for attempt in attempts
        ],
    )


def _usage(usage: Any) -> tuple[Any, str | None]:
    """Tokens and cost."""
    return (usage.get("total_tokens"), money(usage.get("cost"))) if isinstance(usage, dict) else (None, None)


def _error(error: Any) -> str | None:
    if isinstance(error, dict):
        return plain.line(error.get("message", ""), 100)
    return plain.line(error, 100) if error else None
