"""`gemflowctl config [get|set|reset]`: the daemon's settings at run time."""

from __future__ import annotations

import json
from typing import Any

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session
from gemflowctl.steps import Bodies


@click.command(
    "config",
    cls=Command,
    epilog="""
    gemflowctl config
    gemflowctl config get workers task_timeout
    gemflowctl config set workers=8 task_timeout=120
    gemflowctl config reset workers
    gemflowctl config reset --all
    """,
)
@click.argument("action", required=False, default="get", type=click.Choice(["get", "set", "reset"]))
@click.argument("arguments", nargs=-1, metavar="[KEY | KEY=VALUE]...")
@click.option("--all", "everything", is_flag=True, help="With `reset`: undo every change made at run time.")
@click.pass_obj
def command(session: Session, action: str, arguments: tuple[str, ...], everything: bool) -> None:
    """Show settings with where each comes from, change them at run time, or undo that.

    `set` is kept over restarts until `reset`. A VALUE is JSON if it can be read as such, else a string.
    With --json: one setting on each line.
    """
    if everything and (action != "reset" or arguments):
        raise click.UsageError("--all is for `config reset`, without keys")
    if action != "get" and not arguments and not everything:
        needed = {"set": "one KEY=VALUE", "reset": "one KEY, or --all"}[action]
        raise click.UsageError(f"`config {action}` needs at least {needed}")
    keys = list(arguments)
    change: dict[str, Any] | None = None
    if action == "set":
        change = dict(_pair(argument) for argument in arguments)
        keys = list(change)
    with session.client() as client:
        settings = client.config(change, keys if action == "reset" else None, reset_all=everything)
    if keys:
        settings = _chosen(settings, keys)
    if session.console.as_json:
        session.console.json_lines(settings)
        return
    session.console.table(
        ["key", "value", "unit", "origin", "meaning"],
        [
            [
                setting["key"],
                json.dumps(setting["value"], ensure_ascii=False, default=str),
                setting.get("unit"),
                setting["origin"],
                setting.get("doc"),
            ]
            for setting in settings
        ],
    )


def _pair(argument: str) -> tuple[str, Any]:
    key, equals, value = argument.partition("=")
    if not equals or not key:
        raise click.UsageError(f"{argument!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _chosen(settings: Bodies, keys: list[str]) -> Bodies:
    known = {setting["key"]: setting for setting in settings}
    missing = [key for key in keys if key not in known]
    if missing:
        raise click.UsageError(f"there is no setting {missing[0]!r}")
    return [known[key] for key in keys]
