"""Data against the schemas of the catalogue: references, templates, what no schema is about."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gemflowd.handlers.models import schema_of
from gemflowd.model.attempt import HandlerInfo, Kind
from gemflowd.model.errors import ConfigError, Invalid
from gemflowd.server.catalogue import Catalogue


@dataclasses.dataclass
class Part:
    weight: float


@dataclasses.dataclass
class Thing:
    count: int
    parts: list[Part] = dataclasses.field(default_factory=list)
    inner: Thing | None = None
    either: int | list[int] | None = None


def catalogue(schema: dict[str, Any], *, converts: bool = True) -> Catalogue:
    made = Catalogue()
    made.load([HandlerInfo("thing", Kind.BLOCKING, schema, converts=converts)])
    return made


def refusal(of: Catalogue, data: dict[str, Any], *, templates: bool = False) -> str | None:
    try:
        of.check("thing", data, "tasks[0]", templates=templates)
    except Invalid as refused:
        assert refused.code == "invalid_data"
        return refused.path
    return None


def test_references_work_and_the_path_is_named() -> None:
    things = catalogue(schema_of(Thing))
    assert refusal(things, {"count": 1, "inner": {"count": 2, "parts": [{"weight": 1}]}}) is None
    assert refusal(things, {"count": 1, "parts": [{"weight": 1}, {"weight": "x"}]}) == "tasks[0].data.parts[1].weight"
    assert refusal(things, {"inner": None}) == "tasks[0].data"


def test_a_template_may_become_what_the_model_wants() -> None:
    things = catalogue(schema_of(Thing))
    good = [
        {"count": "{{ deps.a }}"},
        {"count": 1, "either": "{{ deps.a }}"},
        {"count": 1, "either": ["{{ deps.a }}"]},
        {"count": 1, "inner": {"count": "{{ deps.a }}", "parts": [{"weight": "{% if 1 %}2{% endif %}"}]}},
    ]
    assert [refusal(things, data, templates=True) for data in good] == [None] * 4
    assert None not in [refusal(things, data) for data in good], "without dependencies they are no templates"
    bad = {"count": "{{ deps.a }}", "parts": [{"weight": "heavy"}]}
    assert refusal(things, bad, templates=True) == "tasks[0].data.parts[0].weight"
    assert refusal(things, {"either": "{{ deps.a }}"}, templates=True) == "tasks[0].data"


def test_with_a_plain_schema_a_template_is_the_string_it_is() -> None:
    assert refusal(catalogue(schema_of(Thing), converts=False), {"count": "{{ deps.a }}"}, templates=True) is not None


def test_bytes_are_refused_and_not_a_defect() -> None:
    things = catalogue({"type": "object", "properties": {"x": {"type": "string"}}})
    with pytest.raises(Invalid, match="base64"):
        things.check("thing", {"x": b"\xff"}, "tasks[0]")


def test_a_sentence_about_large_data_is_short() -> None:
    things = catalogue({"type": "object", "properties": {"x": {"type": "integer"}}})
    with pytest.raises(Invalid) as caught:
        things.check("thing", {"x": "y" * 1_000_000}, "tasks[0]")
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("address", ["file:///etc/hostname", "http://127.0.0.1:9/schema.json"])
def test_a_schema_that_leads_elsewhere_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="is not part of the schema"):
        catalogue({"$ref": address})
