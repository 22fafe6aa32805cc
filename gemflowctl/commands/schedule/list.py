"""`gemflowctl schedule list`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.schedule.showing import flow, state
from gemflowctl.session import Session
from gemflowctl.times import format_moment


@click.command(
    "list",
    cls=Command,
    epilog="gemflowctl schedule list\ngemflowctl schedule list --json | jq -r 'select(.paused) | .name'",
)
@click.pass_obj
def command(session: Session) -> None:
    """List the schedules.

    With --json: one schedule on each line.
    """
    console = session.console
    with session.client() as client:
        schedules = client.schedule_list()
    if console.as_json:
        console.json_lines(schedules)
    elif not schedules:
        console.note("there are no schedules")
    else:
        console.table(
            ["name", "state", "cron", "zone", "next run", "last run", "last flow", "fired", "skipped"],
            [
                [
                    schedule["name"],
                    state(schedule),
                    schedule["cron"],
                    schedule.get("zone"),
                    format_moment(schedule.get("next_run")),
                    format_moment(schedule.get("last_run")),
                    flow(schedule),
                    schedule.get("fired"),
                    schedule.get("skipped"),
                ]
                for schedule in schedules
            ],
        )
