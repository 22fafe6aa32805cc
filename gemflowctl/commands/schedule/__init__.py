"""`gemflowctl schedule …`: tasks that are submitted again and again. One command a module."""

from gemflowctl.cli import LazyGroup

command = LazyGroup(
    "schedule",
    table={
        name: f"gemflowctl.commands.schedule.{name}" for name in ("add", "list", "show", "pause", "resume", "remove")
    },
    help="""Submit tasks again and again, at times that a cron expression names.

    Each run is a flow named after the schedule.
    """,
    epilog="""
    gemflowctl schedule add nightly '30 2 * * *' command --set 'args=["make", "report"]' --zone Europe/Berlin
    gemflowctl schedule list
    gemflowctl schedule pause nightly
    """,
)
