"""`gemflowctl results REF…`: outcomes as JSON lines, to standard output or into a file, of what has ended or as it ends."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gemflowctl.cli import REF, Command
from gemflowctl.errors import ClientError, InvalidInput
from gemflowctl.output import gemini_batch, json
from gemflowctl.output.console import Console
from gemflowctl.output.progress import Bar
from gemflowctl.session import Session
from gemflowctl.steps import Body

if TYPE_CHECKING:
    from gemflowctl.client import Client
    from gemflowctl.output.result_file import ResumedFile

_FLOW: Final = re.compile(r"f\d+")
Form = Callable[[Body], Body]


@click.command(
    "results",
    cls=Command,
    epilog="""
    gemflowctl results f7
    gemflowctl results f7 -o results.jsonl --follow
    gemflowctl results f7 -o answers.jsonl --format gemini-batch
    gemflowctl results f7 --follow --as-completed | jq -r 'select(.ok) | .result.text'
    """,
)
@click.argument("refs", nargs=-1, required=True, type=REF, metavar="REF...")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a file: whole, or not at all. Of a flow the same command goes on after a break.",
)
@click.option("-f", "--follow", is_flag=True, help="Of one flow: until all of it has ended, not only what has.")
@click.option("--as-completed", is_flag=True, help="With --follow: in the order in which they end, not of submission.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["lines", "gemini-batch"]),
    default="lines",
    show_default=True,
    help="gemini-batch: {key, response} or {key, error}, as Google's Batch API writes them.",
)
@click.pass_obj
def command(
    session: Session, refs: tuple[str, ...], output: Path | None, follow: bool, as_completed: bool, form: str
) -> None:
    """Write the results of tasks that have ended, one JSON object a line, in order of submission.

    A task has exactly one line. With -o the lines of a flow that has ended, or with --follow, are collected beside FILE, which
    gets its name when all are there; after a break, whatever it was, the same command goes on behind the last whole line.
    """
    if as_completed and not follow:
        raise click.UsageError("--as-completed goes with --follow")
    flow = refs[0] if len(refs) == 1 and _FLOW.fullmatch(refs[0]) else None
    if follow and flow is None:
        raise click.UsageError("--follow is for one flow, such as f7")
    shape: Form = gemini_batch.to_line if form == "gemini-batch" else _as_it_is
    console = session.console
    with session.client() as client:
        if output is None:
            _to_stdout(console, client, refs, flow if follow else None, as_completed, shape)
            return
        status = None if flow is None else client.status(flow)["items"][0]
        if flow is None or status is None or not (follow or status["state"] not in ("open", "active")):
            from gemflowctl.output.result_file import write_whole

            count = write_whole(output, (shape(result.line) for result in client.results(refs)))
            if status is not None and not console.as_json:
                console.note(
                    f"{flow} has not ended: {count} of {status['total']} are there; --follow waits for the rest"
                )
        else:
            count = _resumed(
                console, client, flow, output, f"{status['submission']} {form} {as_completed}", as_completed, shape
            )
    if console.as_json:
        console.json({"file": str(output), "count": count})
    else:
        console.note(f"{count} results in {output}")


def _to_stdout(
    console: Console, client: Client, refs: tuple[str, ...], flow: str | None, as_completed: bool, shape: Form
) -> None:
    if flow is None:
        console.json_lines(shape(result.line) for result in client.results(refs))
        return
    for result in client.follow(flow, as_completed=as_completed):
        # Who reads along wants each when it is there.
        sys.stdout.write(json.dumps(shape(result.line)) + "\n")
        sys.stdout.flush()


def _resumed(
    console: Console, client: Client, flow: str, output: Path, identity: str, as_completed: bool, shape: Form
) -> int:
    from gemflowctl.output.result_file import ResumedFile

    with (
        ResumedFile(output, identity, _key_of) as file,
        Bar(console, "results") as bar,
    ):
        if file.count:
            console.note(f"{file.count} results are there already: going on behind them")
        try:
            for line in _followed(client, flow, file, as_completed, bar):
                file.write(shape(line))
        except InvalidInput:
            file.drop()
            raise
        except (KeyboardInterrupt, ClientError):
            console.note(f"{file.count} results are in {file.part}; the same command goes on behind them")
            raise
        file.finish()
        return file.count


def _followed(client: Client, flow: str, file: ResumedFile, as_completed: bool, bar: Bar) -> Iterator[Body]:
    def progress(done: int, total: int) -> None:
        bar.update(done, total, f"{file.count} written")

    after = None if as_completed or file.last is None else file.last.get("number")
    results: Iterable[Body] = (
        result.line
        for result in client.follow(
            flow, as_completed=as_completed, after=after, progress=progress if bar.shows else None
        )
    )
    yield from results


def _as_it_is(line: Body) -> Body:
    return line


def _key_of(line: Body) -> str:
    """What tells a line of either form from all others of its flow."""
    return f"number {line['number']}" if "number" in line else f"key {line['key']}"
