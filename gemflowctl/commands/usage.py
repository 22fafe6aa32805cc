"""`gemflowctl usage`: what model calls have used and cost."""

from __future__ import annotations

import time

import click

from gemflowctl.cli import Command
from gemflowctl.commands.budget.showing import money
from gemflowctl.output.console import Console
from gemflowctl.session import Session
from gemflowctl.steps import Body
from gemflowctl.times import parse_since


@click.command(
    "usage",
    cls=Command,
    epilog="""
    gemflowctl usage
    gemflowctl usage --by day --since 7d
    gemflowctl usage --by flow --json | jq .cost
    """,
)
@click.option(
    "--by",
    type=click.Choice(["model", "flow", "day", "tier"]),
    default="model",
    show_default=True,
    help="What is added up.",
)
@click.option("--since", metavar="WHEN", help="From the day (UTC) of that moment on: 7d, or ISO 8601 with a zone.")
@click.pass_obj
def command(session: Session, by: str, since: str | None) -> None:
    """Show what model calls have used and cost: every attempt counts, also one that failed. `saved` is what the
    same tokens would have cost more at the standard tier.

    With --json: one model, flow, day or tier on each line. A cost that is not known counts as nothing; `unpriced` says of how many.
    """
    console = session.console
    try:
        moment = None if since is None else parse_since(since, time.time())
    except ValueError as problem:
        raise click.BadParameter(str(problem), param_hint="--since") from None
    with session.client() as client:
        reply = client.usage(by, since=moment)
    if console.as_json:
        console.json_lines(reply["usage"])
    elif not reply["usage"]:
        console.note("nothing was used")
    else:
        _show(console, reply)


def _show(console: Console, reply: Body) -> None:
    by, currency = reply["by"], reply["currency"]
    rows = [[_name(by, it), *_figures(it, currency)] for it in reply["usage"]]
    if len(rows) > 1:
        rows.append(["all", *_figures(reply["total"], currency)])
    console.table([by, "attempts", "prompt", "cached", "output", "thoughts", "tokens", "cost", "saved"], rows)
    unpriced = reply["total"]["unpriced"]
    if unpriced:
        console.note(f"of {unpriced} attempts the cost is not known: their models have no price (docs/budgets.md)")


def _name(by: str, item: Body) -> str:
    if by == "flow":
        return f"f{item['flow']}" + (f" {item['name']}" if item.get("name") else "")
    return str(item[by] or "-")


def _figures(item: Body, currency: str) -> list[object]:
    names = ("attempts", "prompt_tokens", "cached_tokens", "output_tokens", "thought_tokens", "total_tokens")
    unknown = item["unpriced"] == item["attempts"]
    cost = "unknown" if unknown else money(item["cost"], currency)
    return [
        *(item[name] for name in names),
        f"{cost} + unknown" if item["unpriced"] and not unknown else cost,
        money(item["saved"], currency) if item["saved"] else "-",
    ]
