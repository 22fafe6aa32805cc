"""`gemflowctl submit TYPE` and `gemflowctl submit -f FILE…`: one task, or a flow from files."""

from __future__ import annotations

import shlex
from typing import Any

import click

from gemflowctl.cli import DURATION, Command
from gemflowctl.commands.arguments import data_of, json_object, moment_of
from gemflowctl.commands.submitting import Batch, submit
from gemflowctl.refs import dependencies
from gemflowctl.session import Session
from gemflowctl.submission import check_uuid, task_fields

#: Options that describe one task, and have no meaning for files.
_OF_ONE_TASK = ("data", "settings", "id_", "priority", "after", "queue", "delay", "at", "timeout", "retries")


@click.command(
    "submit",
    cls=Command,
    epilog="""
    gemflowctl submit echo --set text=hello --wait
    gemflowctl submit command --data '{"args": ["make", "test"]}' --timeout 10m --name nightly
    gemflowctl submit gemini --set prompt='Sum it up' --after f7/research:done --priority 8
    gemflowctl submit -f flow.yaml
    gemflowctl submit -f batch-*.jsonl --name "all of them" --wait
    generate | gemflowctl submit -f - --format jsonl
    """,
)
@click.argument("words", nargs=-1, metavar="[TYPE]")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="FILE...",
    help="Tasks from files (.jsonl .json .yaml .toml, - is standard input); all make one flow.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "json", "yaml", "toml"]),
    help="The files' format; else by name, of standard input by look.",
)
@click.option("--data", metavar="JSON|@FILE", help="The task's input, a JSON object.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="One value of the input: JSON if it reads as such, else text; a.b=1 nests.",
)
@click.option("--id", "id_", metavar="ID", help="Your name for the task.")
@click.option("--priority", type=int, help="Higher runs first; by convention 0 to 10, 5 if not given.")
@click.option(
    "--after", multiple=True, metavar="REF[:ON]", help="Wait for a task; ON is success (default), failure or done."
)
@click.option("--queue", metavar="NAME", help="The queue.")
@click.option("--delay", type=DURATION, metavar="TIME", help="Not before so long from now: 90, 90s, 10m, 2h.")
@click.option("--at", metavar="WHEN", help="Not before this moment, ISO 8601 with a zone.")
@click.option("--timeout", type=DURATION, metavar="TIME", help="For one attempt.")
@click.option("--retries", type=click.IntRange(0, 1000), metavar="N", help="Tries after the first.")
@click.option("--metadata", metavar="JSON", help="A JSON object that is kept and shown.")
@click.option("--name", metavar="NAME", help="A name for the flow.")
@click.option("--wait", is_flag=True, help="Wait for the end and show the results; exit with 1 if something failed.")
@click.option("--resume", metavar="UUID", help="With -f: go on with a submission that broke off.")
@click.pass_context
def command(context: click.Context, /, words: tuple[str, ...], files: tuple[str, ...], **options: Any) -> int:
    """Submit a task of TYPE, or with -f the tasks of files as one flow. When it returns, they are durable.

    Files hold tasks as docs/protocol.md describes them, the short form {id, task, agent, deps}, or (JSON lines) Gemini's batch
    lines {key, request}. They are read and checked as a whole before anything is sent; an error names the line.

    With --json: the daemon's reply as one object; with --wait then one line for each result.
    """
    session: Session = context.obj
    resume = options["resume"]
    if files:
        _only_for_files(context)
        # A shell's pattern after -f leaves all files but the first as words.
        batch = _from_files([*files, *words], options)
        return submit(session, batch, resume=check_uuid(resume) if resume else None, wait=options["wait"])
    if resume or options["form"]:
        raise click.UsageError("--resume and --format go with -f")
    if len(words) != 1:
        raise click.UsageError("say which TYPE of task to submit, or -f FILE")
    return submit(session, _one(words[0], options), wait=options["wait"])


def _one(type_: str, options: dict[str, Any]) -> Batch:
    fields = {
        "id": options["id_"],
        "priority": options["priority"],
        "deps": [dep for after in options["after"] for dep in dependencies(after)] or None,
        "queue": options["queue"],
        "delay": options["delay"],
        "run_at": None if options["at"] is None else moment_of("--at", options["at"]),
        "timeout": options["timeout"],
        "retries": options["retries"],
        "metadata": None if options["metadata"] is None else json_object("--metadata", options["metadata"]),
    }
    return Batch([task_fields(type_, data_of(options["data"], options["settings"]), fields)], name=options["name"])


def _from_files(files: list[str], options: dict[str, Any]) -> Batch:
    from gemflowctl.input.files import read

    document = read(files, options["form"])
    metadata = options["metadata"]
    again = "gemflowctl submit " + " ".join(f"-f {shlex.quote(file)}" for file in files)
    for name in ("form", "name", "metadata"):
        if options[name]:
            again += f" --{'format' if name == 'form' else name} {shlex.quote(options[name])}"
    return Batch(
        [entry.task for entry in document.entries],
        name=options["name"] or document.name,
        metadata=None if metadata is None else json_object("--metadata", metadata),
        places=[entry.place for entry in document.entries],
        again=again,
    )


def _only_for_files(context: click.Context) -> None:
    for parameter in context.command.params:
        if parameter.name in _OF_ONE_TASK and context.params.get(parameter.name) not in (None, ()):
            raise click.UsageError(f"{parameter.opts[0]} describes one task and does not go with -f")
