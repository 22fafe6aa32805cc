"""`gemflowctl ping`: whether a daemon answers, and how fast."""

import time

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session


@click.command(
    "ping", cls=Command, epilog="gemflowctl ping\ngemflowctl --endpoint ipc:///run/gemflow/gemflowd.sock ping"
)
@click.pass_obj
def command(session: Session) -> None:
    """Ask the daemon for a sign of life.

    Exits with 3 when there is no daemon, with 5 when it does not answer.
    """
    with session.client() as client:
        hello = client.hello()
        start = time.perf_counter()
        now = client.ping()
        milliseconds = (time.perf_counter() - start) * 1000
    answer = {
        "version": hello["version"],
        "pid": hello["pid"],
        "state": hello["state"],
        "now": now,
        "milliseconds": round(milliseconds, 3),
        "endpoint": client.endpoint,
    }
    if session.console.as_json:
        session.console.json(answer)
    else:
        session.console.line(
            f"gemflowd {hello['version']} (pid {hello['pid']}) is {hello['state']} and answers in {milliseconds:.1f} ms"
        )
