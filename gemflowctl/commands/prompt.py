"""`gemflowctl prompt TEXT…`: short for a `gemini` task."""

from __future__ import annotations

from typing import Any

import click

from gemflowctl.cli import Command
from gemflowctl.commands.arguments import json_object, read_text
from gemflowctl.commands.cache_option import cache_option
from gemflowctl.commands.submitting import Batch, submit
from gemflowctl.session import Session
from gemflowctl.steps import Body


@click.command(
    "prompt",
    cls=Command,
    epilog="""
    gemflowctl prompt Why is the sky blue --wait
    git diff | gemflowctl prompt - --system 'Review this change.' --wait
    gemflowctl prompt --each-line - --schema answer.json < questions.txt
    """,
)
@click.argument("words", nargs=-1, required=True, metavar="TEXT...")
@click.option("--model", metavar="NAME", help="Else the daemon's `default_model`.")
@click.option("--system", metavar="TEXT", help="The system instruction.")
@click.option("--schema", metavar="FILE", help="A JSON Schema that the answer shall follow.")
@click.option(
    "--each-line", is_flag=True, help="Each line that is not empty is a prompt of its own; all make one flow."
)
@cache_option
@click.option("--wait", is_flag=True, help="Wait for the answer and print it; exit with 1 if it failed.")
@click.pass_obj
def command(
    session: Session,
    words: tuple[str, ...],
    model: str | None,
    system: str | None,
    schema: str | None,
    each_line: bool,
    cache: str | None,
    wait: bool,
) -> int:
    """Ask the model. The TEXTs make one prompt; `-` is the standard input.

    With --json: as `submit`.
    """
    text = read_text("TEXT", "-") if words == ("-",) else " ".join(words)
    prompts = [line.strip() for line in text.splitlines() if line.strip()] if each_line else [text.strip()]
    if not any(prompts):
        raise click.UsageError("the prompt is empty")
    common: dict[str, Any] = {"model": model, "system": system, "cache": cache}
    if schema is not None:
        common["schema"] = json_object("--schema", f"@{schema}")
    data = {name: value for name, value in common.items() if value is not None}
    tasks: list[Body] = [{"type": "gemini", "data": {"prompt": prompt, **data}} for prompt in prompts]
    return submit(session, Batch(tasks), wait=wait)
