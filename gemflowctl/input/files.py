"""Reads task files from disk or the standard input, several as one flow, and checks the whole."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gemflowctl.errors import InvalidInput
from gemflowctl.input.check import check_together
from gemflowctl.input.entry import Document, Place
from gemflowctl.input.formats import form_of, parse


def read(files: Sequence[str], form: str | None) -> Document:
    """All tasks of all files, in order; the flow's name is the first that a file gives.

    Raises:
        InvalidInput: with file and line, the first thing that is wrong.
    """
    if len(set(files)) != len(files):
        raise InvalidInput("a file is named twice")
    entries = []
    name = None
    for file in files:
        if form is None:
            form_of(file)  # before reading: the standard input may be long
        document = parse(_text(file), file, form)
        entries += document.entries
        name = name or document.name
    if not entries:
        raise InvalidInput(f"{', '.join(str(Place(file)) for file in files)}: there is no task in it")
    check_together(entries)
    return Document(entries, name)


def _text(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file} can't be read: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{Place(file, line=line)}: not UTF-8 text") from None
