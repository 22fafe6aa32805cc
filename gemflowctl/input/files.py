"""Reads task files from disk or the standard input, several as one flow: as a whole, which is then checked, or line by line."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from gemflowctl.errors import InvalidInput
from gemflowctl.input.check import check_together, to_task
from gemflowctl.input.entry import Document, Maker, Place
from gemflowctl.input.formats import form_of, parse, sniff
from gemflowctl.input.reading import WHOLE_BYTES, Source
from gemflowctl.input.task_lines import TaskLines

#: Seconds without anything out of a pipe after which what has come is sent, where it shall run at once.
_PAUSE: Final = 0.3


def load(
    files: Sequence[str],
    form: str | None,
    *,
    make: Maker = to_task,
    whole: bool = False,
    eager: bool = False,
    grows: bool = False,
) -> Document | TaskLines:
    """All tasks of all files, in order; the flow's name is the first that a file gives.

    JSON lines of more than 8 MiB come as `TaskLines`, to be read while they are sent; all else is read and checked here.

    Args:
        form: the format of all; else by their names, of the standard input by its look.
        make: makes the task of each item.
        whole: read and check here, however much it is.
        eager: don't wait for the first 8 MiB of a pipe, and say when it pauses.
        grows: they are added to a flow, whose tasks they may wait for.

    Raises:
        InvalidInput: with file and line, the first thing that is wrong.
    """
    if len(set(files)) != len(files):
        raise InvalidInput("a file is named twice")
    if form is None:
        for file in files:
            form_of(file)  # before reading: the standard input may be long
    with ExitStack() as stack:
        sources = []
        for file in files:
            sources.append(Source(file))
            stack.callback(sources[-1].close)
        if not whole and _large(sources, eager) and all(_form(source, form) == "jsonl" for source in sources):
            stack.pop_all()
            for source in sources:
                source.pause = _PAUSE if eager else None
            return TaskLines(sources, make)
        return _document(sources, form, make, grows)


def _document(sources: Sequence[Source], form: str | None, make: Maker, grows: bool) -> Document:
    entries = []
    name = None
    for source in sources:
        document = parse(source.whole(), source.file, form, make)
        entries += document.entries
        name = name or document.name
    if not entries:
        raise InvalidInput(f"{', '.join(str(Place(source.file)) for source in sources)}: there is no task in it")
    check_together(entries, grows=grows)
    return Document(entries, name)


def _large(sources: Sequence[Source], eager: bool) -> bool:
    """Whether it is too much to hold; a pipe is read to find out, unless `eager`: then it counts as large."""
    if sum(source.size or 0 for source in sources) > WHOLE_BYTES:
        return True
    return any(source.size is None and (eager or source.exceeds(WHOLE_BYTES)) for source in sources)


def _form(source: Source, form: str | None) -> str:
    return form or form_of(source.file) or sniff(source.first_lines().decode("utf-8-sig", "replace"))
