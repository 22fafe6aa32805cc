"""`gemflowctl logs REF [-f]`: a task's output."""

from __future__ import annotations

import sys

import click

from gemflowctl.cli import REF, Command
from gemflowctl.output import plain
from gemflowctl.session import Session


@click.command(
    "logs",
    cls=Command,
    epilog="""
    gemflowctl logs 42
    gemflowctl logs f7/build -f
    gemflowctl logs 42 --json | jq -r 'select(.stream == "stderr") | .text'
    """,
)
@click.argument("ref", type=REF)
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Only lines after this number.")
@click.pass_obj
def command(session: Session, ref: str, follow: bool, after: int) -> None:
    """Show what a task wrote: its log lines, and the standard error of a command.

    Control characters are shown as escapes; --json has the exact text, with number, time, attempt and stream.
    """
    with session.client() as client:
        for line in client.logs(ref, follow=follow, after=after):
            if session.console.as_json:
                session.console.json(line)
            else:
                sys.stdout.write(plain.text(line["text"].removesuffix("\n")) + "\n")
                if follow:
                    sys.stdout.flush()
