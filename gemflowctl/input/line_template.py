"""A task whose strings have placeholders for the fields of a line: `submit -f lines.jsonl --template T`. Pure but for reading T.

`{{ field }}` and `{{ field.inner }}` stand for what a line has there, `{{ line }}` for all of it, `{{ '{{' }}` for braces. A
string that is nothing but a placeholder becomes the value as it is, of whatever type; in other text a value that is no string is
written as JSON. What is put in is not looked at again, neither here nor by the daemon.

Does not cover: expressions, loops, filters; and templates of the daemon's, which need results of other tasks.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from gemflowctl.errors import InvalidInput
from gemflowctl.input import gemini_batch
from gemflowctl.input.check import to_task
from gemflowctl.input.entry import Place
from gemflowctl.input.formats import form_of

_PLACEHOLDER: Final = re.compile(
    r"\{\{\s*(?:(?P<quote>['\"])(?P<text>.*?)(?P=quote)|(?P<path>[^{}'\"]*?))\s*\}\}", re.DOTALL
)
_KEY: Final = "key"
_LINE: Final = "line"


class _Missing(Exception):
    """A line has no such field."""


class LineTemplate:
    """Makes a task of each line.

    Args:
        task: a task as docs/protocol.md describes it, or a Gemini batch line, with placeholders in its strings.
        id_field: the field of each line that is the task's id, unless the template has one itself. If not given, it is `key`
            where a line has that, else the number of the line.

    Raises:
        InvalidInput: a placeholder is malformed.
    """

    def __init__(self, task: dict[str, Any], id_field: str | None = None) -> None:
        self._id_field = id_field
        self._id = "key" if gemini_batch.is_line(task) else "id"
        if id_field is not None and self._id in task:
            raise InvalidInput(f"--id-field: the template has `{self._id}` already")
        self._has_id = self._id in task
        self._make = _compiled(task, "")

    def __call__(self, line: Any, place: Place) -> dict[str, Any]:
        """The task of a line.

        Raises:
            InvalidInput: with the place and the field.
        """
        if not isinstance(line, dict):
            raise InvalidInput(f"{place}: with --template a line is a map, not {json.dumps(line)[:40]}")
        try:
            filled = self._make(line)
        except _Missing as missing:
            field, where = missing.args
            raise InvalidInput(f"{place}: there is no field `{field}`, which the template needs in `{where}`") from None
        if not self._has_id:
            filled = {self._id: self._id_of(line, place), **filled}
        task = to_task(filled, place)
        if "deps" in task:
            if task.get("template"):
                raise InvalidInput(f"{place}: `template: true` would have the daemon render what comes from lines")
            task["template"] = False
        return task

    def _id_of(self, line: dict[str, Any], place: Place) -> str | int:
        field = self._id_field or _KEY
        if field not in line:
            if self._id_field is not None:
                raise InvalidInput(f"{place}: there is no field `{field}`, which is the task's id (--id-field)")
            return (place.line or 0) if place.index is None else place.index + 1
        value = line[field]
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise InvalidInput(f"{place}: `{field}` is the task's id, and must be a string or an integer")
        return value


def read(text: str, id_field: str | None = None) -> LineTemplate:
    """The template that `--template` means: a JSON object, or a file (`@FILE` too) of JSON, YAML or TOML with one task.

    Raises:
        InvalidInput: it is none.
    """
    if text.lstrip().startswith("{"):
        return LineTemplate(_task(_json(text, "--template"), "--template"), id_field)
    file = text.removeprefix("@")
    form = form_of(file)
    try:
        content = Path(file).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{file} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} is not UTF-8 text") from None
    return LineTemplate(_task(_parse(content, file, form or "json"), file), id_field)


def _task(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not any(name in value for name in ("type", "task", "request")):
        raise InvalidInput(f"{where}: a template is one task, a map with `type` (or `task`, or `request`)")
    return value


def _parse(text: str, file: str, form: str) -> Any:
    if form == "yaml":
        from gemflowctl.input import yaml12

        return yaml12.load(text, file)[0]
    if form == "toml":
        import tomllib

        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(f"{file}: not TOML: {error}") from None
    return _json(text, file)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}: not JSON: {error}") from None


def _compiled(value: Any, where: str) -> Any:
    """A function from a line to what `value` becomes."""
    if isinstance(value, dict):
        fields = {name: _compiled(inner, f"{where}.{name}" if where else str(name)) for name, inner in value.items()}
        return lambda line: {name: make(line) for name, make in fields.items()}
    if isinstance(value, list):
        items = [_compiled(inner, f"{where}[{index}]") for index, inner in enumerate(value)]
        return lambda line: [make(line) for make in items]
    if isinstance(value, str) and "{{" in value:
        return _compiled_text(value, where)
    return lambda _line: value


def _compiled_text(text: str, where: str) -> Any:
    """`parts` are texts, and the paths of fields between them."""
    parts: list[tuple[bool, str]] = []
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        parts.append((False, text[end : match.start()]))
        parts.append((False, match["text"]) if match["path"] is None else (True, match["path"]))
        end = match.end()
        if match["path"] == "":
            raise InvalidInput(f"the template's `{where}`: `{match[0]}` names no field")
    parts.append((False, text[end:]))
    between = (part for index, (_, part) in enumerate(parts) if index % 2 == 0)
    if any("{{" in part for part in between):
        raise InvalidInput(
            f"the template's `{where}`: `{{{{` opens no placeholder; write {{{{ field }}}}, and {{{{ '{{{{' }}}} for braces"
        )
    parts = [part for part in parts if part[1]]
    if len(parts) == 1 and parts[0][0]:
        path = parts[0][1]
        return lambda line: _found(line, path, where)
    return lambda line: "".join(_text(_found(line, part, where)) if field else part for field, part in parts)


def _found(line: dict[str, Any], path: str, where: str) -> Any:
    if path in line:
        return line[path]
    first, *names = path.split(".")
    value: Any = line
    if first in line:
        value = line[first]
    elif first != _LINE:
        raise _Missing(path, where)
    for name in names:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            raise _Missing(path, where)
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
