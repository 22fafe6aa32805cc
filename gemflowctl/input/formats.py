"""The formats of task files: JSON lines, JSON, YAML and TOML. Pure: text in, entries out.

JSON, YAML and TOML hold a list of tasks or `{name?, tasks: […]}`; of TOML only the latter is possible.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from gemflowctl.errors import InvalidInput
from gemflowctl.input.check import to_task
from gemflowctl.input.entry import Document, Entry, Maker, Place

SUFFIXES: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
}
NAMES: Final = ("jsonl", "json", "yaml", "toml")
_TOML_START: Final = re.compile(r"^\s*(\[\[?[\w.-]+\]\]?\s*(#.*)?|[\w-]+(\.[\w-]+)*\s*=.*)$")


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a number that JSON has")


#: One for all lines: json.loads() would make a new one for each.
_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)


def parse(text: str, file: str, form: str | None = None, make: Maker = to_task) -> Document:
    """Read a file's text.

    Args:
        form: one of `NAMES`; None goes by the file's suffix, and of the standard input by its look.
        make: makes the task of each item.

    Raises:
        InvalidInput: with file and line; the first thing that is wrong.
    """
    form = form or form_of(file) or sniff(text)
    return _PARSERS[form](text.removeprefix("\ufeff"), file, make)


def form_of(file: str) -> str | None:
    """The format that a file's name says; None for the standard input.

    Raises:
        InvalidInput: the suffix says nothing.
    """
    if file == "-":
        return None
    form = next((form for suffix, form in SUFFIXES.items() if file.lower().endswith(suffix)), None)
    if form is None:
        raise InvalidInput(f"{file}: which format is it? Name it *.jsonl, *.json, *.yaml or *.toml, or say --format")
    return form


def sniff(text: str) -> str:
    """The format that a text looks like."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return "jsonl"
    start = text.lstrip()[0]
    if start == "[" and _TOML_START.match(lines[0]) is None:
        return "json"
    if start == "{":
        try:
            first = json.loads(lines[0])
        except ValueError:
            return "json"
        return "json" if len(lines) == 1 and "tasks" in first else "jsonl"
    meaning = next((line for line in lines if not line.lstrip().startswith("#")), "")
    return "toml" if _TOML_START.match(meaning) else "yaml"


def _jsonl(text: str, file: str, make: Maker) -> Document:
    entries = []
    # Only newlines end a line: JSON strings may hold the other characters that splitlines() knows.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = Place(file, line=number)
        entries.append(Entry(json_line(line, place, make), place))
    return Document(entries)


def json_line(line: str, place: Place, make: Maker = to_task) -> dict[str, Any]:
    """The task of one JSON line.

    Raises:
        InvalidInput: with the place.
    """
    try:
        value = _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{place}: not JSON: {_reason(error)}") from None
    return make(value, place)


def _json(text: str, file: str, make: Maker) -> Document:
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{Place(file, line=error.lineno)}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{Place(file)}: not JSON: {error}") from None
    return _document(value, file, {}, make)


def _yaml(text: str, file: str, make: Maker) -> Document:
    from gemflowctl.input import yaml12

    value, lines = yaml12.load(text, file)
    return _document(value, file, lines, make)


def _toml(text: str, file: str, make: Maker) -> Document:
    import tomllib

    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{Place(file)}: not TOML: {error}") from None
    return _document(value, file, {}, make)


def _document(value: Any, file: str, lines: dict[int, int], make: Maker) -> Document:
    name = None
    if isinstance(value, dict):
        unknown = sorted(str(key) for key in set(value) - {"name", "tasks"})
        if unknown or "tasks" not in value:
            what = f"`{unknown[0]}` is not a field of a flow" if unknown else "there is no `tasks`"
            raise InvalidInput(f"{Place(file)}: {what}; write a list of tasks or {{name?, tasks: [...]}}")
        name, value = value.get("name"), value["tasks"]
        if name is not None and not isinstance(name, str):
            raise InvalidInput(f"{Place(file)}: `name` must be a string")
    if not isinstance(value, list):
        raise InvalidInput(f"{Place(file)}: it holds neither a list of tasks nor {{name?, tasks: [...]}}")
    entries = []
    for index, task in enumerate(value):
        place = Place(file, line=lines.get(index), index=index)
        entries.append(Entry(make(task, place), place))
    return Document(entries, name)


def _reason(error: Exception) -> str:
    return f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else str(error)


_PARSERS: Final[dict[str, Callable[[str, str, Maker], Document]]] = {
    "jsonl": _jsonl,
    "json": _json,
    "yaml": _yaml,
    "toml": _toml,
}
