"""What a schedule looks like to a person."""

from __future__ import annotations

from gemflowctl.output import json, plain
from gemflowctl.output.console import Console
from gemflowctl.steps import Body
from gemflowctl.times import format_moment


def state(schedule: Body) -> str:
    """`paused` or `active`."""
    return "paused" if schedule["paused"] else "active"


def flow(schedule: Body) -> str | None:
    """The reference of the flow that it started last."""
    return None if schedule.get("last_flow") is None else f"f{schedule['last_flow']}"


def tell(console: Console, schedule: Body) -> None:
    """One line: its state, and when it runs next."""
    name = plain.line(schedule["name"])
    if schedule["paused"]:
        console.line(f"schedule {name} is paused")
    elif schedule.get("next_run") is None:
        console.line(f"schedule {name} is active; its times are over, it never runs again")
    else:
        console.line(f"schedule {name} is active; it runs next at {format_moment(schedule['next_run'])}")


def show(console: Console, schedule: Body) -> None:
    """All of it."""
    misfire = schedule.get("misfire")
    console.pairs(
        {
            "schedule": schedule["name"],
            "state": state(schedule),
            "cron": schedule["cron"],
            "zone": schedule.get("zone"),
            "next run": format_moment(schedule.get("next_run")),
            "last run": format_moment(schedule.get("last_run")),
            "last flow": flow(schedule),
            "fired": schedule.get("fired"),
            "skipped": schedule.get("skipped"),
            "misfire": f"{misfire}, at most {schedule.get('misfire_limit')}" if misfire == "all" else misfire,
            "overlap": schedule.get("overlap"),
            "created": format_moment(schedule.get("created")),
        }
    )
    console.line()
    console.line("task:")
    console.line(plain.text(json.dumps(schedule.get("task"), indent=2)))
