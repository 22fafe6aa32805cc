"""`gemflowctl monitor`: the live screen, or with --json the figures once a second."""

from __future__ import annotations

import sys

import click

from gemflowctl.cli import Command
from gemflowctl.commands.stats import must_be_published
from gemflowctl.session import Session


@click.command("monitor", cls=Command, epilog="gemflowctl monitor\ngemflowctl monitor --json | jq .throughput")
@click.pass_obj
def command(session: Session) -> None:
    """Watch the daemon: figures, workers and events, live. q quits.

    It survives a restart of the daemon. With --json: the figures as one object a second on each line.
    """
    console = session.console
    if not console.as_json and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise click.UsageError("the monitor needs a terminal; use `gemflowctl stats -f`, or --json, instead")
    with session.client() as client:
        first = client.stats()
        endpoint = client.endpoint
    must_be_published(first)
    if console.as_json:
        _lines(session, endpoint)
    else:
        from gemflowctl.monitor import screen

        screen.show(endpoint, first, color=console.colored(sys.stdout))


def _lines(session: Session, endpoint: str) -> None:
    import zmq

    from gemflowctl.subscriber import Subscriber
    from gemflowd.protocol.endpoints import events_endpoint

    with zmq.Context() as context:
        subscriber = Subscriber(context, events_endpoint(endpoint), ("stats",))
        try:
            while True:
                message = subscriber.receive(1.0)
                for stats in message[1]["events"] if message else ():
                    session.console.json(stats)
        finally:
            subscriber.close()
