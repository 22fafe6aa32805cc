"""JSON by a schema: it fits, and it comes from the text."""

from __future__ import annotations

from typing import Any

import pytest

from gemflowd.standin.extract import take_apart
from gemflowd.standin.structured import UnfillableSchema, fill

TEXT = """List the facts.

The river Elbe rose to 4.2 m on 2024-09-17. About 1,200 people left their homes. Ask office@flood.example for more.
The mood was calm. Nobody was hurt."""


def made(schema: dict[str, Any]) -> Any:
    return fill(schema, take_apart(TEXT))


def test_json_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "title": {"type": "string", "maxLength": 30},
            "people": {"type": "integer", "minimum": 1000},
            "height": {"type": "number"},
            "date": {"type": "string", "format": "date"},
            "contact": {"type": "string", "format": "email"},
            "facts": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2, "uniqueItems": True},
            "mood": {"enum": ["angry", "calm"]},
            "hurt": {"type": "boolean"},
            "kind": {"const": "report"},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "number"}]},
            "word": {"type": "string", "pattern": "^[A-Z][a-z]+$"},
        },
        "required": ["title", "people", "facts"],
        "additionalProperties": False,
    }
    value = made(schema)
    assert value.keys() == schema["properties"].keys()
    assert value["people"] == 1200
    assert isinstance(value["people"], int)
    assert value["date"] == "2024-09-17"
    assert value["contact"] == "office@flood.example"
    assert len(set(value["facts"])) == 2
    assert value["mood"] == "calm"
    assert value["hurt"] is True
    assert value["kind"] == "report"
    assert isinstance(value["maybe"], float)
    assert value["word"] == "List" or value["word"] in TEXT
    assert len(value["title"]) <= 30


def test_geminis_own_dialect() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "n": {"type": "INTEGER"},
            "list": {"type": "ARRAY", "items": {"type": "STRING"}, "minItems": "4"},
        },
        "propertyOrdering": ["list", "n"],
        "required": ["n"],
    }
    value = made(schema)
    assert list(value) == ["list", "n"]
    assert len(value["list"]) == 4
    assert isinstance(value["n"], int)


def test_references_and_recursion_come_to_an_end() -> None:
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/node"}},
        "required": ["name"],
    }
    value = made({"$ref": "#/$defs/node", "$defs": {"node": node}})
    depth = 0
    while value is not None:
        assert value["name"]
        value = value.get("next")
        depth += 1
    assert 2 <= depth <= 6


def test_all_of_and_maps() -> None:
    parts = [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "boolean"}}, "required": ["b"]}]
    assert made({"allOf": parts, "type": "object"}).keys() == {"a", "b"}
    counts = made({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2})
    assert len(counts) == 2
    assert all(isinstance(value, int) for value in counts.values())


@pytest.mark.parametrize(
    ("schema", "low", "high"),
    [
        ({"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 7}, 6, 6),
        ({"type": "number", "maximum": -2}, float("-inf"), -2),
        ({"type": "integer", "minimum": 10, "maximum": 20, "multipleOf": 7}, 14, 14),
    ],
)
def test_bounds(schema: dict[str, Any], low: float, high: float) -> None:
    assert low <= made(schema) <= high


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 1, "maximum": 0},
        {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        {"type": "string", "pattern": "("},
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"$ref": "#/$defs/none"},
        {"$ref": "#"},
        {"$ref": "https://example.org/schema"},
        {"type": "array", "minItems": 3, "maxItems": 2},
        {"type": "array", "items": {"const": 1}, "uniqueItems": True, "minItems": 2},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
    ],
)
def test_what_can_not_be_filled_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(UnfillableSchema):
        made(schema)
