"""`gemflowctl prompt TEXT…`: short for a `gemini` task."""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from gemflowctl.cli import Command
from gemflowctl.commands.arguments import data_of, json_object, read_text
from gemflowctl.commands.budget_options import budget_of, budget_options
from gemflowctl.commands.call_options import call_options, said
from gemflowctl.commands.single_options import NAMES, only_for, single_fields, single_options
from gemflowctl.commands.submitting import Batch, submit
from gemflowctl.commands.task_options import fields_of, term_options
from gemflowctl.session import Session
from gemflowctl.steps import Body
from gemflowctl.submission import task_fields

#: Bytes of all files of one prompt: a request to the daemon has 16 MiB, and base64 adds a third.
_MOST_FILES: Final = 10 * 1024 * 1024


@click.command(
    "prompt",
    cls=Command,
    epilog="""
    gemflowctl prompt Why is the sky blue --wait
    git diff | gemflowctl prompt - --system 'Review this change.' --wait
    gemflowctl prompt --each-line - --schema answer.json < questions.txt
    gemflowctl prompt 'What is in the files?' --tool list_files --tool read_file --wait
    gemflowctl prompt 'What is on it?' --file photo.jpg --temperature 0.2 --wait
    gemflowctl prompt Think --model gemini-2.5-pro --fallback gemini-2.5-flash --config thinking_config.thinking_budget=512
    """,
)
@click.argument("words", nargs=-1, required=True, metavar="TEXT...")
@click.option("--model", metavar="NAME", help="Else the daemon's `default_model`.")
@click.option(
    "--fallback", multiple=True, metavar="NAME", help="Asked where the model can't be had; may be given again."
)
@click.option("--agent", metavar="NAME", help="A persona; `handlers` lists them.")
@click.option("--system", metavar="TEXT", help="The system instruction.")
@click.option(
    "--schema", metavar="FILE|JSON", help="A JSON Schema that the answer must fit: a file, or the schema itself."
)
@click.option("--max-reasks", type=click.IntRange(0, 20), metavar="N", help="Ask so often again when it does not.")
@click.option(
    "--file", "files", multiple=True, metavar="FILE", help="A file or image of this machine; may be given again."
)
@click.option(
    "--tool",
    "tools",
    multiple=True,
    metavar="NAME",
    help="A tool that the model may use, as read_file, memory.get or mcp:SERVER/TOOL; may be given again.",
)
@click.option("--max-hops", type=click.IntRange(1, 40), metavar="N", help="With tools: questions to the model; 10.")
@click.option("--temperature", type=float, metavar="X")
@click.option("--top-p", type=float, metavar="X")
@click.option("--top-k", type=float, metavar="X")
@click.option("--max-output-tokens", type=click.IntRange(min=1), metavar="N")
@click.option("--seed", type=int, metavar="N")
@click.option("--stop", "stop_sequences", multiple=True, metavar="TEXT", help="Ends the answer; may be given again.")
@click.option(
    "--config",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other generation setting by its name in the API; JSON if it reads as such, else text; a.b=1 nests.",
)
@click.option(
    "--each-line", is_flag=True, help="Each line that is not empty is a prompt of its own; all make one flow."
)
@term_options
@single_options
@call_options
@click.option("--name", metavar="NAME", help="A name for the flow.")
@budget_options
@click.option("--wait", is_flag=True, help="Wait for the answer and print it; exit with 1 if it failed.")
@click.option(
    "--stream/--no-stream",
    default=None,
    help="Let the answer come in pieces: into the task's log, and with --wait to the screen. On a terminal --wait does so by itself.",
)
@click.pass_context
def command(
    context: click.Context,
    /,
    words: tuple[str, ...],
    each_line: bool,
    wait: bool,
    stream: bool | None,
    **options: Any,
) -> int:
    """Ask the model. The TEXTs make one prompt; `-` is the standard input.

    With --json: as `submit`.
    """
    session: Session = context.obj
    text = read_text("TEXT", "-") if words == ("-",) else " ".join(words)
    prompts = [line.strip() for line in text.splitlines() if line.strip()] if each_line else [text.strip()]
    if not any(prompts):
        raise click.UsageError("the prompt is empty")
    if each_line:
        only_for(context, NAMES, "describes one task and does not go with --each-line")
    shows = wait and not session.console.as_json and len(prompts) == 1
    if stream is None:
        stream = shows and sys.stdout.isatty()
    data = _data(options)
    if stream:
        data["stream"] = True
    parts = _parts(options["files"])
    fields = {**fields_of(options), **single_fields(options)}
    tasks = [task_fields("gemini", {**_question(prompt, parts), **data}, fields) for prompt in prompts]
    about = {"name": options["name"], "budget": budget_of(options)}
    return submit(session, Batch(tasks, about=about, answers=True), wait=wait, follow=shows and stream)


def _data(options: dict[str, Any]) -> dict[str, Any]:
    """What the options say beside the question; nothing where one was not given."""
    config = data_of(None, options["settings"], "--config") or {}
    for name in ("temperature", "top_p", "top_k", "max_output_tokens", "seed"):
        if options[name] is not None:
            config[name] = options[name]
    if options["stop_sequences"]:
        config["stop_sequences"] = list(options["stop_sequences"])
    found = {name: options[name] for name in ("model", "agent", "system", "max_reasks")}
    found.update(said(options))
    found["tools"] = list(options["tools"]) or None
    found["max_hops"] = options["max_hops"]
    found["fallback"] = list(options["fallback"]) or None
    found["config"] = config or None
    if options["schema"] is not None:
        text = options["schema"]
        found["schema"] = json_object("--schema", text if text.lstrip().startswith("{") else f"@{text}")
    return {name: value for name, value in found.items() if value is not None}


def _question(prompt: str, parts: Sequence[Body]) -> Body:
    return {"contents": [{"role": "user", "parts": [*parts, {"text": prompt}]}]} if parts else {"prompt": prompt}


def _parts(files: Sequence[str]) -> list[Body]:
    """The files as they are sent along: the daemon may be on another machine, or see other files."""
    if not files:
        return []
    from gemflowd.model.media import BEGINNING, media_type

    parts: list[Body] = []
    size = 0
    for name in files:
        try:
            content = Path(name).read_bytes()
        except OSError as error:
            raise click.BadParameter(f"{name} can't be read: {error.strerror}", param_hint="--file") from None
        size += len(content)
        if size > _MOST_FILES:
            message = f"all files together may have {_MOST_FILES >> 20} MiB; put larger ones into a workspace (`files` of the task)"
            raise click.BadParameter(message, param_hint="--file")
        kind = media_type(name, content[:BEGINNING])
        if kind is None:
            raise click.BadParameter(f"what kind of file {name} is can't be told by its name", param_hint="--file")
        parts.append({"inlineData": {"mimeType": kind, "data": base64.b64encode(content).decode("ascii")}})
    return parts
