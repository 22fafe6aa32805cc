"""What may be said together in a question to a model: the same words at submission and in the worker."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from google.genai import models

from gemflowd.model.calls import NOT_VERTEX, VERTEX_ALONE, misfit, plain_model, uses_vertex, with_plain_models
from gemflowd.model.errors import Invalid
from gemflowd.model.limit import plain_name
from gemflowd.server.model_calls import written_out


def refusal(data: dict[str, Any], *, vertex: bool = False) -> tuple[str, str | None]:
    with pytest.raises(Invalid) as caught:
        written_out({"model": "m", "prompt": "x", **data}, 5, 1_000.0, "data", many=True, vertex=vertex)
    return caught.value.code, caught.value.path


def taken(data: dict[str, Any], *, vertex: bool = False) -> dict[str, Any]:
    return written_out({"model": "m", "prompt": "x", **data}, 5, 1_000.0, "data", many=True, vertex=vertex)


SCHEMA = {"type": "object"}


@pytest.mark.parametrize(
    ("data", "code", "field"),
    [
        ({"tools": ["read_file"], "files": ["a"]}, "not_supported", "files"),
        ({"tools": ["read_file"], "config": {"tools": [{"googleSearch": {}}]}}, "invalid_value", "config.tools"),
        ({"tools": ["read_file"], "stream": True, "tier": "batch"}, "not_supported", "tier"),
        ({"tools": ["read_file"], "deadline": 60}, "invalid_value", "deadline"),
        ({"max_hops": 3}, "invalid_value", "max_hops"),
        ({"tools": [], "hop": {}}, "invalid_value", "hop"),
        ({"stream": True, "tier": "batch"}, "not_supported", "tier"),
        ({"files": ["a"], "tier": "batch"}, "not_supported", "tier"),
        ({"tier": "flex", "service_tier": "flex"}, "invalid_value", "tier"),
        ({"service_tier": "flex", "config": {"serviceTier": "flex"}}, "invalid_value", "config.serviceTier"),
        ({"system": "a", "config": {"systemInstruction": "b"}}, "invalid_value", "config.systemInstruction"),
        ({"schema": SCHEMA, "config": {"responseSchema": SCHEMA}}, "invalid_value", "config.responseSchema"),
        ({"schema": SCHEMA, "config": {"responseMimeType": "text/plain"}}, "invalid_value", "config.responseMimeType"),
        ({"schema": {}, "config": {"response_mime_type": ""}}, "invalid_value", "config.response_mime_type"),
        ({"config": {"candidateCount": 2}}, "not_supported", "config.candidateCount"),
        ({"config": {"response_modalities": ["IMAGE"]}}, "not_supported", "config.response_modalities"),
        ({"config": {"httpOptions": {}}}, "not_supported", "config.httpOptions"),
        ({"config": {"routingConfig": {}}}, "not_supported", "config.routingConfig"),
    ],
)
def test_what_does_not_go_together_is_refused_at_submission(data: dict[str, Any], code: str, field: str) -> None:
    assert refusal(data) == (code, f"data.{field}")


def test_an_answer_by_a_schema_may_say_that_it_is_json() -> None:
    for form in ("application/json", "{{ deps.a }}", None):
        assert misfit({"schema": SCHEMA, "config": {"response_mime_type": form}}, vertex=None) is None
    assert misfit({"config": {"response_mime_type": "text/plain"}}, vertex=None) is None


def test_what_vertex_ai_has_not_is_refused_with_it_alone() -> None:
    assert refusal({"tier": "batch"}, vertex=True) == ("not_supported", "data.tier")
    assert refusal({"config": {"store": False}}, vertex=True) == ("not_supported", "data.config.store")
    assert taken({"config": {"routingConfig": {}}}, vertex=True)
    assert taken({"config": {"store": False}})
    assert taken({"tier": "auto"})["tier"] == "batch"
    assert taken({"tier": "auto"}, vertex=True)["tier"] == "flex"
    assert uses_vertex({"GOOGLE_GENAI_USE_ENTERPRISE": "1"})


def test_a_conversation_goes_into_batches_only_where_it_says_so() -> None:
    assert taken({"tools": ["read_file"], "tier": "auto"})["tier"] == "flex"
    found = taken({"tools": ["read_file"], "tier": "batch", "deadline": 60})
    assert (found["tier"], found["deadline"]) == ("batch", "1970-01-01T00:17:40.000+00:00")


def test_a_template_is_looked_at_when_it_is_rendered() -> None:
    assert (
        misfit({"config": {"response_modalities": ["{{ deps.a }}"], "candidate_count": "{{ deps.b }}"}}, vertex=None)
        is None
    )


@pytest.mark.parametrize(("convert", "names"), [("mldev", VERTEX_ALONE), ("vertex", NOT_VERTEX)])
def test_the_settings_of_one_way_to_gemini_are_those_of_the_sdk(convert: str, names: frozenset[str]) -> None:
    source = inspect.getsource(getattr(models, f"_GenerateContentConfig_to_{convert}"))
    assert set(re.findall(r"'(\w+) parameter is", source)) == names


def test_a_model_has_one_name():
    data = {"model": "models/a", "fallback": ["b", "models/c"], "prompt": "models/d"}
    assert with_plain_models(data) == {"model": "a", "fallback": ["b", "c"], "prompt": "models/d"}
    plain = {"model": "tunedModels/a"}
    assert with_plain_models(plain) is plain
    assert plain_model("models/") == "models/", "which is no model, and is told so"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("gemini:models/a", "gemini:a"),
        ("gemini.count:models/a", "gemini.count:a"),
        ("gemini:a", "gemini:a"),
        ("gemini", "gemini"),
        ("mail:models/a", "mail:models/a"),
    ],
)
def test_so_has_its_limit(name: str, plain: str):
    assert plain_name(name) == plain
