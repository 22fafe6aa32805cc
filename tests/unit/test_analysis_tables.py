"""Values as tables and cells as values."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest

from gemflowd.handlers.analysis.tables import as_lines, cell, columns_of, from_json, names_of, rows_of
from gemflowd.model.values import check_value


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ([{"a": 1}, {"b": 2}], [{"a": 1}, {"b": 2}]),
        ([1, {"a": 1}], [{"value": 1}, {"value": {"a": 1}}]),
        ({"text": "x"}, [{"text": "x"}]),
        ({"stdout": [{"a": 1}], "exit_code": 0}, [{"a": 1}]),
        ({"stdout": "text", "exit_code": 0}, [{"stdout": "text", "exit_code": 0}]),
        ({"rows": [{"a": 1}], "columns": ["a"]}, [{"a": 1}]),
        ({"rows": [], "columns": ["a"]}, []),
        ({}, []),
        ([], []),
        ("text", [{"value": "text"}]),
        (None, [{"value": None}]),
    ],
)
def test_rows_of(value: Any, rows: list[dict[str, Any]]) -> None:
    assert rows_of(value) == rows


def test_lines() -> None:
    data = as_lines([{"a": "two\nlines"}, {"b": b"\x00"}])
    assert [json.loads(line) for line in data.splitlines()] == [{"a": "two\nlines"}, {"b": {"$bytes": "AA=="}}]


def test_columns() -> None:
    assert columns_of({"rows": [], "columns": ["a", "b"]}) == ["a", "b"]
    assert columns_of([]) == ["value"]
    assert names_of(["a", "a", "a_1", "a", "b"]) == ["a", "a_1", "a_1_1", "a_2", "b"]
    assert names_of(["1"] * 50_000)[-1] == "1_49999"  # at once, and not after a day


@pytest.mark.parametrize(
    ("found", "value"),
    [
        (2**63 - 1, 2**63 - 1),
        (2**63, "9223372036854775808"),
        (Decimal("2.50"), 2.5),
        (Decimal("12345678901234567890.12"), "12345678901234567890.12"),
        (Decimal("3"), 3),
        (Decimal("NaN"), "NaN"),
        (float("inf"), "inf"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "2024-01-02T03:04:05+00:00"),
        (datetime.time(1, 2), "01:02:00"),
        (datetime.timedelta(days=1, seconds=1.5), 86401.5),
        ({1: [Decimal("0.1")]}, {"1": [0.1]}),
        ((1, None), [1, None]),
        (b"\x00", b"\x00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_cells_can_be_stored(found: Any, value: Any) -> None:
    assert cell(found) == value
    assert type(cell(found)) is type(value)
    check_value(cell(found), "cell")


def test_cells_of_json() -> None:
    assert from_json('{"a": [1, NaN]}') == {"a": [1, "nan"]}
    assert from_json("not json") == "not json"
    assert from_json(None) is None
