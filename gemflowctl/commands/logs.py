"""`gemflowctl logs REF [-f]`: a task's output."""

from __future__ import annotations

import sys

import click

from gemflowctl.cli import REF, Command
from gemflowctl.output.streamed import LogWriter
from gemflowctl.session import Session


@click.command(
    "logs",
    cls=Command,
    epilog="""
    gemflowctl logs 42
    gemflowctl logs f7/build -f
    gemflowctl logs f7 -f
    gemflowctl logs 42 --attempt 2 --stream stderr --timestamps
    gemflowctl logs 42 --json | jq -r 'select(.stream == "stderr") | .text'
    """,
)
@click.argument("ref", type=REF)
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Only lines after this number.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Only those of the Nth attempt.")
@click.option(
    "--stream",
    "streams",
    multiple=True,
    metavar="NAME",
    help="Only stdout, stderr, log, or text (the pieces of a model's answer); may be given again.",
)
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its time, attempt and stream.")
@click.pass_obj
def command(
    session: Session,
    ref: str,
    follow: bool,
    after: int,
    attempt: int | None,
    streams: tuple[str, ...],
    timestamps: bool,
) -> None:
    """Show what a task wrote, or each task of a flow: what its handler printed and logged, and the standard error of a command.

    The answer of a model that streams is shown as it comes; who asks late gets what was said before.

    Control characters are shown as escapes; --json has the exact text, with number, time, attempt and stream.
    """
    writer = LogWriter(sys.stdout.write, timestamps=timestamps)
    try:
        with session.client() as client:
            for line in client.logs(ref, follow=follow, after=after):
                if attempt not in (None, line["attempt"]) or (streams and line["stream"] not in streams):
                    continue
                if session.console.as_json:
                    session.console.json(line)
                else:
                    writer.add(line)
                if follow:
                    sys.stdout.flush()
    finally:
        writer.close()
