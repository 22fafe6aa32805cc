"""`gemflowctl results REF…`: outcomes as JSON lines, to standard output or atomically into a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import click

from gemflowctl.cli import REF, Command
from gemflowctl.output import json
from gemflowctl.session import Session
from gemflowctl.steps import Body


@click.command(
    "results",
    cls=Command,
    epilog="""
    gemflowctl results f7
    gemflowctl results f7 -o results.jsonl
    gemflowctl results 42-48 | jq -r 'select(.ok) | .result.text'
    """,
)
@click.argument("refs", nargs=-1, required=True, type=REF, metavar="REF...")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write a file: whole, or not at all."
)
@click.pass_obj
def command(session: Session, refs: tuple[str, ...], output: Path | None) -> None:
    """Write the results of tasks that have ended, one JSON object a line, in order of submission."""
    with session.client() as client:
        lines = (result.line for result in client.results(refs))
        if output is None:
            session.console.json_lines(lines)
            return
        count = write_whole(output, lines)
    if session.console.as_json:
        session.console.json({"file": str(output), "count": count})
    else:
        session.console.note(f"{count} results in {output}")


def write_whole(path: Path, lines: Iterable[Body]) -> int:
    """Write lines into a file beside the target and rename it when all are there; how many.

    Raises:
        click.ClickException: the file can't be written.
    """
    temporary: Path | None = None
    count = 0
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            for line in lines:
                file.write(json.dumps(line) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise click.ClickException(f"{path} can't be written: {error.strerror}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return count


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
