"""Values of options that are more than a word: JSON, `@FILE`, `key=value`, moments."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gemflowctl.times import is_duration, parse_duration
from gemflowd.protocol.moments import parse_moment


def data_of(data: str | None, settings: Sequence[str], option: str = "--set") -> dict[str, Any] | None:
    """The task's data of `--data` and `--set`, the latter on top; None when neither was given.

    Raises:
        click.UsageError: malformed.
    """
    found = {} if data is None else json_object("--data", data)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not all(key.split(".")):
            raise click.BadParameter(f"{setting!r} is not KEY=VALUE", param_hint=option)
        _put(found, key, json_or_text(text), option)
    return found if data is not None or settings else None


def json_object(option: str, text: str) -> dict[str, Any]:
    """A JSON object given as text, or as `@FILE` (`@-` is the standard input).

    Raises:
        click.UsageError: it is none.
    """
    if text.startswith("@"):
        text = read_text(option, text[1:])
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=option) from None
    if not isinstance(value, dict):
        raise click.BadParameter("it must be a JSON object", param_hint=option)
    return value


def read_text(option: str, file: str) -> str:
    """The text of a file; `-` is the standard input.

    Raises:
        click.UsageError: it can't be read.
    """
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise click.BadParameter(f"{file} can't be read: {error.strerror}", param_hint=option) from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"{file} is not UTF-8 text", param_hint=option) from None


def moment_of(option: str, text: str) -> float:
    """Seconds since the epoch.

    Raises:
        click.UsageError: it is no moment.
    """
    try:
        return parse_moment(text)
    except ValueError as problem:
        raise click.BadParameter(str(problem), param_hint=option) from None


def moment_or_duration(option: str, text: str | None) -> tuple[float | None, float | None]:
    """A moment in seconds since the epoch, or a duration in seconds; None for what it is not.

    Raises:
        click.UsageError: it is neither.
    """
    if text is None:
        return None, None
    if is_duration(text):
        return None, parse_duration(text)
    return moment_of(option, text), None


def json_or_text(text: str) -> Any:
    """What a text means: JSON if it reads as such, else itself."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def _put(data: dict[str, Any], key: str, value: Any, option: str) -> None:
    *outer, last = key.split(".")
    place = data
    for name in outer:
        inner = place.setdefault(name, {})
        if not isinstance(inner, dict):
            raise click.BadParameter(f"{key!r}: {name!r} is a value already and can't hold others", param_hint=option)
        place = inner
    place[last] = value


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a number that JSON has")
