"""`gemflowctl events [-f] [--from SEQ] [--topic T]…`: what happened, and what happens."""

from __future__ import annotations

import sys

import click

from gemflowctl.cli import Command
from gemflowctl.output import plain
from gemflowctl.session import Session
from gemflowctl.steps import Body
from gemflowctl.times import format_moment

#: Without --from and -f: so many numbers back.
_RECENT = 100


@click.command(
    "events",
    cls=Command,
    epilog="""
    gemflowctl events --topic task.failed
    gemflowctl events -f --topic task --topic flow
    gemflowctl events -f --from 1200 --json
    """,
)
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted, without missing any.")
@click.option("--from", "start", type=click.IntRange(min=0), metavar="SEQ", help="The first number wanted.")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="TOPIC",
    help="task, task.<state>, flow, worker, limit, queue, memory, schedule, log.<number>, stats.",
)
@click.pass_obj
def command(session: Session, follow: bool, start: int | None, topics: tuple[str, ...]) -> None:
    """Show stored events, by default the last hundred; with -f what happens from now on (or from SEQ on).

    Topics are prefixes. With --json: one event on each line. An event of topic `missed` tells which numbers, and how many of
    each topic, were deleted before they could be shown.
    """
    recent = start is None and not follow
    with session.client() as client:
        if recent:
            start = max(0, client.next_event() - _RECENT)
        for event in client.events(topics, start=start, follow=follow):
            if recent and event["topic"] == "missed":
                continue  # nobody asked for a certain number
            if session.console.as_json:
                session.console.json(event)
            else:
                sys.stdout.write(one_line(event) + "\n")
                if follow:
                    sys.stdout.flush()


def one_line(event: Body) -> str:
    """An event in one line, harmless for a terminal."""
    if event.get("topic") == "missed":
        return _missed(event)
    seq = "" if event.get("seq") is None else f"{event['seq']}  "
    at = f"{format_moment(event['at'])}  " if "at" in event else ""
    rest = {name: value for name, value in event.items() if name not in ("seq", "at", "topic") and value is not None}
    return f"{seq}{at}{plain.line(event.get('topic', 'stats'))}  " + "  ".join(
        f"{plain.line(name)}={plain.line(value, 200)}" for name, value in rest.items()
    )


def _missed(event: Body) -> str:
    counts = ", ".join(f"{count} {plain.line(topic)}" for topic, count in event["topics"].items())
    return f"missed  events {event['first']} to {event['last']} were deleted before they were read" + (
        f": {counts}" if counts else ""
    )
