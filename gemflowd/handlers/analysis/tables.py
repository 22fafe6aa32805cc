"""What a value looks like as a table, and what a cell of a result looks like as a value. Pure."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from gemflowd.handlers.contents import as_json

_INT: Final = 2**63


def rows_of(value: Any) -> list[dict[str, Any]]:
    """The rows of a value.

    A list of maps has a row for each. So has a map that holds one as `rows` (the result of another analysis) or `stdout` (of a
    command). Any other list has its items in the column `value`; any other map is one row; anything else is one row with `value`.
    """
    if isinstance(value, Mapping):
        for key in ("rows", "stdout"):
            inner = value.get(key)
            if isinstance(inner, list) and all(isinstance(item, Mapping) for item in inner):
                return [dict(item) for item in inner]
        return [dict(value)] if value else []
    if isinstance(value, list):
        if all(isinstance(item, Mapping) for item in value):
            return [dict(item) for item in value]
        return [{"value": item} for item in value]
    return [{"value": value}]


def columns_of(value: Any) -> list[str]:
    """The columns of a table without rows: those that the result of an analysis tells, else `value`."""
    told = value.get("columns") if isinstance(value, Mapping) else None
    return told if isinstance(told, list) and told and all(isinstance(name, str) for name in told) else ["value"]


def as_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as JSON, one a line."""
    return b"".join(as_json(row) + b"\n" for row in rows)


def names_of(columns: Sequence[str]) -> list[str]:
    """Names of columns, each once: `a`, `a_1`, …"""
    found: dict[str, None] = {}
    numbers: dict[str, int] = {}  # how often a name was there already: thousands may be equal
    for name in columns:
        unique = name
        while unique in found:
            numbers[name] = numbers.get(name, 0) + 1
            unique = f"{name}_{numbers[name]}"
        found[unique] = None
    return list(found)


def cell(value: Any) -> Any:
    """A cell as a value that can be stored: numbers as numbers where no digit is lost, else as text; dates in ISO 8601."""
    if value is None or isinstance(value, str | bool | bytes):
        return value
    if isinstance(value, int):
        return value if -_INT <= value < _INT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, datetime.date | datetime.time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): cell(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [cell(item) for item in value]
    return str(value)


def from_json(text: Any) -> Any:
    """A cell of the type JSON."""
    try:
        return cell(json.loads(text)) if isinstance(text, str) else cell(text)
    except (ValueError, RecursionError):
        return text


def _decimal(value: Decimal) -> int | float | str:
    if not value.is_finite():
        return str(value)
    if value == value.to_integral_value() and -_INT <= value < _INT and value.as_tuple().exponent == 0:
        return int(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else str(value)
