"""`gemflowctl cache stats`."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.commands.budget.showing import money
from gemflowctl.session import Session
from gemflowctl.steps import Body
from gemflowctl.times import format_bytes


@click.command("stats", cls=Command, epilog="gemflowctl cache stats\ngemflowctl cache stats --json | jq .hit_rate")
@click.pass_obj
def command(session: Session) -> None:
    """Show how many answers came from the cache, and what that has saved, in tokens and in money.

    With --json one object.
    """
    console = session.console
    with session.client() as client:
        stats = client.cache_stats()
    if console.as_json:
        console.json(stats)
        return
    console.pairs(
        {"entries": stats["entries"], "size": format_bytes(stats["bytes"]), "used": stats["hits"], "asked": stats["misses"],
         "hit rate": hit_rate(stats), "tokens saved": tokens(stats), "money saved": saved_money(stats)}
    )  # fmt: skip
    if len(stats["models"]) > 1:
        console.line()
        console.table(
            ["model", "used", "asked", "hit rate", "tokens saved", "money saved"],
            [
                [one["model"], one["hits"], one["misses"], hit_rate(one), tokens(one), saved_money(one)]
                for one in stats["models"]
            ],
        )


def hit_rate(counts: Body) -> str | None:
    rate = counts["hit_rate"]
    return None if rate is None else f"{rate:.1%}"


def tokens(counts: Body) -> str:
    """What was saved: of the prompts, and of the answers with what was thought about them."""
    saved = counts["saved"]
    return f"{saved['prompt_tokens']} in, {saved['output_tokens'] + saved['thought_tokens']} out"


def saved_money(counts: Body) -> str:
    """By the prices that were known when the answers were used."""
    saved = counts["saved"]
    unknown = f", and {saved['unpriced']} of unknown cost" if saved["unpriced"] else ""
    return f"{money(saved['cost'])}{unknown}"
