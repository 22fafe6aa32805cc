"""`gemflowctl stats [-f]`: the figures of the moment."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.workers import show_workers
from gemflowctl.output.console import Console
from gemflowctl.session import Session
from gemflowctl.steps import Body
from gemflowctl.times import format_moment, format_seconds


@click.command("stats", cls=Command, epilog="gemflowctl stats\ngemflowctl stats -f --json | jq .throughput")
@click.option("-f", "--follow", is_flag=True, help="Once a second, until interrupted.")
@click.pass_obj
def command(session: Session, follow: bool) -> None:
    """Show how many tasks run, wait and have ended, how fast they go, and the workers.

    With --json one object, with -f one a second on each line.
    """
    console = session.console
    with session.client() as client:
        if not follow:
            _show(console, client.stats())
            return
        must_be_published(client.stats())
        for stats in client.events(["stats"]):
            if console.as_json:
                console.json(stats)
            else:
                console.line(one_line(stats))


def must_be_published(stats: Body) -> None:
    """Figures come only while the daemon publishes them: whoever waits for them is told.

    Raises:
        click.ClickException: it does not.
    """
    if not stats.get("monitoring", True):
        raise click.ClickException(
            "the daemon publishes no figures: its setting `monitoring` is false; `gemflowctl config set monitoring=true`"
        )


def one_line(stats: Body) -> str:
    """The figures in one line."""
    return (
        f"{format_moment(stats['at'])}  active {stats['active']}  queued {stats['queued']}  waiting {stats['waiting']}"
        f"  completed {stats['completed']}  failed {stats['failed']}  {stats['throughput']:.1f}/s"
        f"  average {format_seconds(stats['average_seconds'])}"
    )


def _memory(stats: Body) -> str | None:
    """Of the daemon itself, without its workers."""
    rss, store = stats.get("rss_bytes"), stats.get("store_bytes")
    return (
        None
        if rss is None
        else f"{rss / 1e6:.0f} MB" + (f", {store / 1e6:.0f} MB of it the database's cache" if store else "")
    )


def _cache(counts: Body | None) -> str | None:
    """How many answers cost nothing; None where no task has asked the cache."""
    if not counts or counts["hit_rate"] is None:
        return None
    return f"{counts['hits']} of the answers ({counts['hit_rate']:.1%}); gemflowctl cache stats"


def _show(console: Console, stats: Body) -> None:
    if console.as_json:
        console.json(stats)
        return
    console.pairs(
        {
            "active": stats["active"],
            "queued": stats["queued"],
            "waiting": stats["waiting"],
            "completed": stats["completed"],
            "failed": stats["failed"],
            "cancelled": stats["cancelled"],
            "skipped": stats["skipped"],
            "average": format_seconds(stats["average_seconds"]),
            "throughput": f"{stats['throughput']:.1f}/s",
            "from the cache": _cache(stats.get("cache")),
            "refused outcomes": stats.get("refused_outcomes") or None,
            "memory": _memory(stats),
            "up for": format_seconds(stats["uptime"]),
        }
    )
    if stats.get("workers"):
        console.line()
        show_workers(console, stats["workers"])
