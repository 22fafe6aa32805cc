"""`gemflowctl schedule add NAME CRON TYPE`."""

from __future__ import annotations

from typing import Any

import click

from gemflowctl.cli import DURATION, Command
from gemflowctl.commands.arguments import data_of
from gemflowctl.commands.budget_options import budget_of, budget_options
from gemflowctl.commands.call_options import lasting_call_options, said, say_to_one
from gemflowctl.commands.schedule.showing import tell
from gemflowctl.commands.task_options import fields_of, task_options
from gemflowctl.session import Session
from gemflowctl.submission import task_fields


@click.command(
    "add",
    cls=Command,
    epilog="""
    gemflowctl schedule add nightly '30 2 * * *' command --set 'args=["make", "report"]' --zone Europe/Berlin
    gemflowctl schedule add news @hourly gemini --set prompt='What is new?' --overlap queue --retries 5
    gemflowctl schedule add digest @daily agent --set goal='What has changed?' --budget 0.50
    gemflowctl schedule add nightly '0 3 * * 1-5' command --set 'args=["make", "report"]' --replace
    """,
)
@click.argument("name")
@click.argument("cron")
@click.argument("type_", metavar="TYPE")
@task_options
@lasting_call_options
@budget_options
@click.option("--expires", type=DURATION, metavar="TIME", help="A run that has not started after so long is skipped.")
@click.option("--zone", metavar="ZONE", help="The time zone of CRON, such as Europe/Berlin; UTC if not given.")
@click.option(
    "--misfire",
    type=click.Choice(["skip", "once", "all"]),
    help="Runs that were missed: none, one for all (the default), or each.",
)
@click.option("--misfire-limit", type=click.IntRange(min=1), metavar="N", help="With `all`: at most the last N; 10.")
@click.option(
    "--overlap",
    type=click.Choice(["skip", "allow", "queue", "cancel"]),
    help="When the last run has not ended: skip this one (the default), allow both, wait for it, or cancel it.",
)
@click.option("--paused", is_flag=True, help="Begin paused.")
@click.option("--replace", is_flag=True, help="Put it in the place of a schedule with this name.")
@click.pass_obj
def command(session: Session, /, name: str, cron: str, type_: str, **options: Any) -> None:
    """Submit a task of TYPE at the times that CRON names.

    CRON has five fields (minute, hour, day, month, day of week), or six with seconds first, or is @hourly, @daily and the like.
    """
    fields = {**fields_of(options), "expires_in": options["expires"]}
    task = task_fields(type_, data_of(options["data"], options["settings"]), {**fields, "budget": budget_of(options)})
    say_to_one(task, said(options))
    chosen = {key: options[key] for key in ("zone", "misfire", "misfire_limit", "overlap", "paused", "replace")}
    with session.client() as client:
        schedule = client.schedule_add(name, cron, task, **chosen)
    if session.console.as_json:
        session.console.json(schedule)
    else:
        tell(session.console, schedule)
