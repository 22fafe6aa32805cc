"""Models of data and results: schema, conversion in both directions, and what does not fit."""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, datetime
from typing import Any

import msgspec
import pydantic
import pytest

from gemflowd.handlers.errors import Permanent
from gemflowd.handlers.models import is_model, schema_of, to_model, to_plain


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass
class Tree:
    name: str
    at: Point | None = None
    children: list[Tree] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if self.name == "forbidden":
            raise ValueError("that name is forbidden")


class Job(msgspec.Struct, rename="camel"):
    how_many: int
    kind: str = "plain"


class Order(pydantic.BaseModel):
    number: int = pydantic.Field(alias="no", ge=1)
    lines: list[dict[str, int]] = []


@pydantic.dataclasses.dataclass
class Checked:
    n: int


def refused(model: type, data: Any, *, strict: bool = True) -> str:
    with pytest.raises(Permanent) as caught:
        to_model(model, data, strict=strict)
    assert caught.value.code == "bad_data"
    return str(caught.value)


def test_what_is_a_model() -> None:
    assert all(map(is_model, (Point, Tree, Job, Order, Checked)))
    assert not any(map(is_model, (dict, int, Point(1), None, "Point", list[Point], dict[str, Any])))


@pytest.mark.parametrize(
    ("model", "data", "same"),
    [
        (Point, {"x": 1}, Point(1, 0)),
        (Tree, {"name": "a", "at": {"x": 2}, "children": [{"name": "b"}]}, Tree("a", Point(2), [Tree("b")])),
        (Job, {"howMany": 2}, Job(2)),
        (Order, {"no": 3, "lines": [{"a": 1}]}, Order(no=3, lines=[{"a": 1}])),
        (Checked, {"n": 4}, Checked(4)),
    ],
)
def test_data_becomes_the_model_and_plain_again(model: type, data: dict[str, Any], same: Any) -> None:
    assert to_model(model, data, strict=True) == same
    assert to_model(model, to_plain(same), strict=True) == same
    assert schema_of(model)


def test_what_does_not_fit_names_its_place() -> None:
    assert refused(Tree, {"name": "a", "children": [{"name": "b", "at": {"x": "no"}}]}).startswith(
        "data.children[0].at.x: "
    )
    assert refused(Job, {"howMany": 1.5}).startswith("data.howMany: ")
    assert refused(Job, {}) == "data: Object missing required field `howMany`"
    assert "that name is forbidden" in refused(Tree, {"name": "a", "children": [{"name": "forbidden"}]})
    assert refused(Order, {"no": 1, "lines": [{}, {"a": "x"}]}).startswith("data.lines[1].a: ")
    assert refused(Order, {"no": 0}).startswith("data.no: ")


def test_a_rendered_template_may_be_a_number() -> None:
    assert "Expected `int`" in refused(Point, {"x": "5"})
    assert to_model(Point, {"x": "5"}, strict=False) == Point(5)
    assert refused(Point, {"x": "five"}, strict=False).startswith("data.x: ")


class Colour(enum.Enum):
    RED = "red"


def test_models_inside_of_plain_values() -> None:
    value = {"points": [Point(1), Job(2)], "order": Order(no=1), "at": datetime(2026, 1, 2, tzinfo=UTC), "b": b"\xff"}
    plain = {
        "points": [{"x": 1, "y": 0}, {"howMany": 2, "kind": "plain"}],
        "order": {"no": 1, "lines": []},
        "at": "2026-01-02T00:00:00Z",
        "b": b"\xff",
    }
    assert to_plain(value) == plain
    assert to_plain([Colour.RED]) == ["red"]


def test_a_default_is_part_of_the_result() -> None:
    made = to_model(Tree, {"name": "a", "at": {"x": 1}}, strict=True)
    whole = {"name": "a", "at": {"x": 1, "y": 0}, "children": []}
    assert to_plain(made) == whole
    assert to_plain([{"deep": made}]) == [{"deep": whole}]


def test_what_can_not_be_made_plain() -> None:
    tree = Tree("a")
    tree.children.append(tree)
    order = Order(no=1)
    order.lines.append(order)  # type: ignore[arg-type]
    for value in (tree, order, object(), {"deep": [object()]}):
        with pytest.raises((TypeError, RecursionError, ValueError)):
            to_plain(value)


def test_a_model_without_a_schema_says_so() -> None:
    @dataclasses.dataclass
    class Odd:
        what: complex

    with pytest.raises(TypeError, match=r"no JSON Schema can be made of .*Odd"):
        schema_of(Odd)
