"""`gemflowctl submit TYPE` and `gemflowctl submit -f FILE…`: one task, or a flow from files."""

from __future__ import annotations

import shlex
from contextlib import closing
from typing import Any

import click

from gemflowctl.cli import Command
from gemflowctl.commands.arguments import data_of, json_object
from gemflowctl.commands.budget_options import budget_of, budget_options
from gemflowctl.commands.call_options import call_options, said, say, say_to_one
from gemflowctl.commands.single_options import NAMES as SINGLE
from gemflowctl.commands.single_options import only_for, single_fields, single_options
from gemflowctl.commands.submitting import Batch, submit
from gemflowctl.commands.task_options import NAMES, fields_of, task_options
from gemflowctl.session import Session
from gemflowctl.submission import check_uuid, task_fields

#: Options that describe one task, and have no meaning for files.
_OF_ONE_TASK = (*NAMES, *SINGLE)
#: Options that describe a flow from files.
_OF_FILES = ("resume", "form", "template", "id_field", "weight", "order", "max_errors", "stream")


@click.command(
    "submit",
    cls=Command,
    epilog="""
    gemflowctl submit echo --set text=hello --wait
    gemflowctl submit command --data '{"args": ["make", "test"]}' --timeout 10m --name nightly
    gemflowctl submit gemini --set prompt='Sum it up' --after f7/research:done --priority 8
    gemflowctl submit -f flow.yaml
    gemflowctl submit -f batch-*.jsonl --name "all of them" --wait
    gemflowctl submit -f prompts.jsonl --budget 2.50
    generate | gemflowctl submit -f - --format jsonl --stream
    gemflowctl submit -f questions.jsonl --template '{"type": "gemini", "data": {"prompt": "Solve: {{ question }}"}}'
    gemflowctl submit command --set 'args=["./sync"]' --key sync --expires 1h --resource gpu=1
    gemflowctl submit -f found.jsonl --grow --step found
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
@click.option(
    "--template",
    metavar="TASK|FILE",
    help="With -f: a task with {{ field }} where each line's fields belong; a JSON object, or a file (.json .yaml .toml).",
)
@click.option(
    "--id-field",
    metavar="FIELD",
    help="With --template: the field that is the task's id; else `key`, else the line's number.",
)
@task_options
@single_options
@call_options
@click.option("--name", metavar="NAME", help="A name for the flow.")
@click.option("--wait", is_flag=True, help="Wait for the end and show the results; exit with 1 if something failed.")
@click.option(
    "--resume",
    metavar="UUID",
    help="With -f: go on with a submission that broke off; of a UUID that the daemon does not know it is the beginning.",
)
@click.option(
    "--weight",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="With -f: the flow's share beside others of equal priority; 1 if not given.",
)
@click.option(
    "--order",
    type=click.Choice(["fair", "critical-path"]),
    help="With -f: critical-path starts first what most depends on, by --estimate or the mean of the type.",
)
@budget_options
@click.option(
    "--max-errors",
    type=click.IntRange(min=1),
    metavar="N",
    help="With -f: when so many of its tasks have failed, the rest is held until a `release`.",
)
@click.option("--stream", is_flag=True, help="With -f: what has arrived runs before the rest has.")
@click.option("--grow", is_flag=True, help="Add to the flow of the running task that calls this.")
@click.option("--step", metavar="NAME", help="With --grow: a later attempt adds the same step no second time.")
@click.pass_context
def command(context: click.Context, /, words: tuple[str, ...], files: tuple[str, ...], **options: Any) -> int:
    """Submit a task of TYPE, or with -f the tasks of files as one flow. When it returns, they are durable.

    Files hold tasks as docs/protocol.md describes them, the short form {id, task, agent, deps}, or (JSON lines) Gemini's batch
    lines {key, request}; with --template any maps, each of which the template makes a task of. They are read and checked as a
    whole before anything is sent; an error names the line. JSON lines of more than 8 MiB are read, checked and sent piece by
    piece instead: what a task waits for has to stand before it.

    With --json: the daemon's reply as one object; with --wait then one line for each result.
    """
    session: Session = context.obj
    resume = options["resume"]
    if options["step"] and not options["grow"]:
        raise click.UsageError("--step goes with --grow")
    if options["id_field"] and not options["template"]:
        raise click.UsageError("--id-field goes with --template")
    if options["grow"] and budget_of(options) is not None:
        raise click.UsageError(
            "--grow adds to a flow that there is, and falls under its budget: `budget set` is for that"
        )
    if options["grow"] and (options["name"] or resume or options["stream"]):
        raise click.UsageError("--grow adds to a flow that there is: --name, --resume and --stream don't go with it")
    if files:
        only_for(context, _OF_ONE_TASK, "describes one task and does not go with -f")
        # A shell's pattern after -f leaves all files but the first as words.
        return _submit_files(session, [*files, *words], options, check_uuid(resume) if resume else None)
    only_for(context, _OF_FILES, "goes with -f")
    if len(words) != 1:
        raise click.UsageError("say which TYPE of task to submit, or -f FILE")
    return submit(session, _one(words[0], options), wait=options["wait"])


def _one(type_: str, options: dict[str, Any]) -> Batch:
    task = task_fields(
        type_, data_of(options["data"], options["settings"]), {**fields_of(options), **single_fields(options)}
    )
    say_to_one(task, said(options))
    return Batch([task], about={"name": options["name"], "grow": _growth(options), "budget": budget_of(options)})


def _submit_files(session: Session, files: list[str], options: dict[str, Any], resume: str | None) -> int:
    from gemflowctl.input import line_template
    from gemflowctl.input.check import to_task
    from gemflowctl.input.files import load
    from gemflowctl.input.task_lines import TaskLines

    grow = _growth(options)
    metadata = options["metadata"]
    about: dict[str, Any] = {
        "name": options["name"],
        "metadata": None if metadata is None else json_object("--metadata", metadata),
        "weight": options["weight"],
        "order": options["order"],
        "stream": options["stream"],
        "budget": budget_of(options),
        "max_errors": options["max_errors"],
    }
    make = to_task if options["template"] is None else line_template.read(options["template"], options["id_field"])
    again = _again(files, options)
    # What grows has to go in one request.
    whole = grow is not None
    found = load(files, options["form"], make=make, whole=whole, eager=options["stream"], grows=whole)
    words = said(options)
    if isinstance(found, TaskLines):
        if words:
            found.each = lambda task: say(task, words)
        with closing(found):
            return submit(session, Batch(lines=found, about=about, again=again), resume=resume, wait=options["wait"])
    if words:
        for entry in found.entries:
            say(entry.task, words)
    batch = Batch(
        [entry.task for entry in found.entries],
        about={
            **about,
            "name": options["name"] or (found.name if grow is None else None),
            "grow": grow,
        },
        places=[entry.place for entry in found.entries],
        again=again if grow is None else None,
    )
    return submit(session, batch, resume=resume, wait=options["wait"])


def _growth(options: dict[str, Any]) -> dict[str, Any] | None:
    return {"step": options["step"]} if options["grow"] else None


def _again(files: list[str], options: dict[str, Any]) -> str:
    """The command that goes on after a break, without the UUID."""
    again = "gemflowctl submit " + " ".join(f"-f {shlex.quote(file)}" for file in files)
    for name in (
        "form",
        "template",
        "id_field",
        "name",
        "metadata",
        "weight",
        "order",
        "max_errors",
        "cache",
        "tier",
        "deadline",
        "budget",
        "budget_tokens",
        "budget_action",
    ):
        if options[name] is not None and options[name] != "":
            word = "format" if name == "form" else name.replace("_", "-")
            again += f" --{word} {shlex.quote(str(options[name]))}"
    return again + (" --stream" if options["stream"] else "")
