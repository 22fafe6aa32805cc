"""Tasks by their metadata: what is equal, and how many are looked at."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from gemflowd.store import metadata


def body(**its: Any) -> bytes:
    return msgpack.packb({"data": {"customer": "other", "big": "x" * 100}, "metadata": its, "template": False})


@pytest.mark.parametrize(
    ("its", "wanted", "found"),
    [
        ({"a": 1, "b": "x"}, {"a": 1}, True),
        ({"a": 1, "b": "x"}, {"a": 1, "b": "x"}, True),
        ({"a": 1, "b": "x"}, {"a": 1, "b": "y"}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 0}, {"a": False}, False),
        ({"a": True}, {"a": True}, True),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": None}, {"a": None}, True),
        ({}, {"a": None}, False),
        ({"a": [1, {"b": 2}]}, {"a": [1.0, {"b": 2}]}, True),
        ({"a": [1, True]}, {"a": [1, 1]}, False),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"x": {"customer": "acme"}}, {"customer": "acme"}, False),
        ({"customer": "acme"}, {"customer": "acme"}, True),
    ],
)
def test_equal_as_in_json(its: dict[str, Any], wanted: dict[str, Any], found: bool):
    assert metadata.has(body(**its), wanted) is found


def test_without_metadata_nothing_matches():
    assert not metadata.has(msgpack.packb({"data": {"customer": "acme"}}), {"customer": "acme"})


def test_a_page_is_full_or_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch):
    rows = [(number, body(even=number % 2 == 0)) for number in range(1, 11)]
    looked = iter(rows)
    assert metadata.matching(looked, {"even": True}, 2) == ([rows[1], rows[3]], 4)
    assert metadata.matching(looked, {"even": True}, 9) == ([rows[5], rows[7], rows[9]], None)
    monkeypatch.setattr(metadata, "MOST_LOOKED", 3)
    assert metadata.matching(iter(rows), {"odd": True}, 2) == ([], 3)
    monkeypatch.setattr(metadata, "MOST_LOOKED", 100)
    monkeypatch.setattr(metadata, "MOST_BYTES", 5 * len(rows[0][1]))
    assert metadata.matching(iter(rows), {"even": True}, 9) == ([rows[1], rows[3]], 5)
