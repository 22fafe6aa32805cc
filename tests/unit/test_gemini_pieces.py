"""The parts of the `gemini` types that need no request: names of settings, answers held against a schema, pieces, files' kinds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.genai import types

from gemflowd.handlers.errors import Instead, Permanent, Transient
from gemflowd.handlers.gemini.before import Before, before, name_next_model
from gemflowd.handlers.gemini.handler import count, embed, gemini
from gemflowd.handlers.gemini.request import build_request
from gemflowd.handlers.gemini.schema import CONFIG
from gemflowd.handlers.gemini.streaming import Pieces, collect
from gemflowd.handlers.gemini.structured import Unfit, check_schema, value_of
from gemflowd.handlers.registry import Handler
from gemflowd.model.calls import OURS
from gemflowd.model.errors import Invalid
from gemflowd.model.media import BEGINNING, media_type
from gemflowd.server.catalogue import Catalogue

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    made = Catalogue()
    handlers: list[Handler] = [function.__gemflow_task__ for function in (gemini, embed, count)]  # type: ignore[attr-defined]
    made.load(handler.info for handler in handlers)
    return made


# What is checked at submission


def test_the_settings_are_those_of_the_sdk() -> None:
    assert CONFIG.keys() | OURS.keys() == types.GenerateContentConfig.model_fields.keys()


@pytest.mark.parametrize(
    "config",
    [
        {"max_output_tokens": 5, "maxOutputTokens": 5, "topP": 0.5, "temperature": 2},
        {"temperature": "{{ deps.a.temperature }}", "stop_sequences": "{{ deps.a.stop }}"},
        {"thinkingConfig": {"thinkingBudget": 0}, "safety_settings": [], "response_schema": {"type": "OBJECT"}},
        {"http_options": {}},  # the worker says why not
    ],
)
def test_settings_that_may_be_submitted(catalogue: Catalogue, config: dict[str, Any]) -> None:
    catalogue.check("gemini", {"prompt": "x", "config": config}, "task")


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"config": {"temprature": 1}}, ".config"),
        ({"config": {"temperature": "warm"}}, ".config.temperature"),
        ({"config": {"topP": 1.5}}, ".config.topP"),
        ({"config": {"max_output_tokens": 0}}, ".config.max_output_tokens"),
        ({"config": {"thinking_config": 5}}, ".config.thinking_config"),
        ({"schema": {"type": "strng"}}, ".schema.type"),
        ({"schema": {"properties": {"a": {"minimum": "1"}}}}, ".schema.properties.a.minimum"),
        ({"fallback": ["a", "a"]}, ".fallback"),
        ({"service_tier": "cheap"}, ".service_tier"),
        ({"max_reasks": -1}, ".max_reasks"),
        ({"files": [{"name": "a"}]}, ".files[0]"),
        ({"workspace": "../x"}, ".workspace"),
    ],
)
def test_what_is_refused_at_submission(catalogue: Catalogue, data: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        catalogue.check("gemini", {"prompt": "x", **data}, "task")
    assert caught.value.path == f"task.data{path}"


# Answers and schemas


def test_an_answer_is_a_value_that_fits() -> None:
    assert value_of('{"n": 1}', SCHEMA) == {"n": 1}
    assert value_of(' "text" ', {"type": "string"}) == "text"
    assert value_of("null", {"type": "null"}) is None
    assert value_of("[1]", None) == [1]


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("{oh", "bad_json", "not JSON"),
        ("", "bad_json", "not JSON"),
        ('{"n": NaN}', "bad_json", "not JSON"),
        ('{"n": "1"}', "schema_mismatch", "n: "),
        ("{}", "schema_mismatch", "the whole: "),
        ("[" * 100_000, "bad_json", "not JSON"),
    ],
)
def test_an_answer_that_does_not(text: str, code: str, word: str) -> None:
    with pytest.raises(Unfit) as caught:
        value_of(text, SCHEMA)
    assert caught.value.code == code
    assert word in str(caught.value)


def test_a_schema_reaches_for_nothing_outside() -> None:
    check_schema(SCHEMA)
    for schema in ({"$ref": "file:///etc/passwd"}, {"$ref": "http://127.0.0.1:1/"}, {"type": "nonsense"}):
        with pytest.raises(Permanent) as caught:
            check_schema(schema)
        assert caught.value.code == "bad_schema"


def test_what_an_earlier_attempt_came_to_is_part_of_the_question() -> None:
    note = {"model": "b", "reasks": 1, "answer": "[]", "complaint": "it is a list"}
    request = build_request({"model": "a", "prompt": "x", "schema": SCHEMA}, before(note, 1))
    assert request.model == "b"
    assert [content.role for content in request.contents] == ["user", "model", "user"]
    said = [part.text or "" for content in request.contents for part in content.parts or []]
    assert said[:2] == ["x", "[]"]
    assert "it is a list" in said[2]
    assert before(note, 0) == Before("b"), "after a retry by a person"
    assert before(None, 0) == before("odd", 3) == Before()


# Pieces


def test_pieces_come_ten_times_a_second_at_most() -> None:
    now = 10.0
    told: list[tuple[str, str]] = []
    pieces = Pieces(lambda *line: told.append(line), lambda: now)
    pieces.add("a")
    pieces.add("b")
    assert told == [("text", "a")]
    now += 0.2
    pieces.add("c")
    pieces.add("d" * 5_000)
    pieces.flush()
    pieces.flush()
    assert [text for _, text in told[1:]] == ["bc", "d" * 4_000, "d" * 1_000]


def chunk(text: str | None = None, finish: str | None = None, *, thought: bool = False, **more: Any) -> Any:
    parts = [] if text is None else [{"text": text, "thought": thought}]
    body: dict[str, Any] = {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish}],
        **more,
    }
    return types.GenerateContentResponse.model_validate_json(json.dumps(body))


def collected(*chunks: Any) -> tuple[types.GenerateContentResponse, str, dict[str, Any]]:
    told: list[str] = []
    usage: dict[str, Any] = {}

    async def come() -> AsyncIterator[types.GenerateContentResponse]:
        for each in chunks:
            yield each

    response = asyncio.run(collect(come(), lambda stream, text: told.append(text), usage))
    return response, "".join(told), usage


def test_chunks_make_one_answer() -> None:
    response, told, usage = collected(
        chunk("Hm.", thought=True),
        chunk("One "),
        chunk("two", usageMetadata={"promptTokenCount": 3}),
        chunk(None, "STOP", usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 2}),
    )
    assert response.text == told == "One two"
    assert response.candidates is not None
    assert response.candidates[0].finish_reason == types.FinishReason.STOP
    assert (usage["prompt_tokens"], usage["output_tokens"]) == (3, 2)


def test_chunks_that_do_not_come_to_an_end() -> None:
    for chunks in ((), (chunk("One"),)):
        with pytest.raises(Transient) as caught:
            collected(*chunks)
        assert caught.value.code == "disconnected"


# Files


@pytest.mark.parametrize(
    ("name", "beginning", "kind"),
    [
        ("a.PNG", b"", "image/png"),
        ("dir.d/b.webp", b"", "image/webp"),
        ("c.pdf", b"", "application/pdf"),
        ("notes", "Grüße".encode(), "text/plain"),
        ("cut", ("x" * (BEGINNING - 1) + "ü").encode()[:BEGINNING], "text/plain"),
        ("latin", b"Gr\xfc\xdfe", None),
        ("binary", b"a\0b", None),
        (".bashrc", b"\xff", None),
    ],
)
def test_what_kind_of_file_it_is(name: str, beginning: bytes, kind: str | None) -> None:
    assert media_type(name, beginning) == kind


@pytest.mark.parametrize(
    ("asked", "following"),
    [("a", "b"), ("models/a", "b"), ("b", "c"), ("c", None), ("d", None)],
)
def test_the_next_model_has_its_own_limit_however_it_is_written(asked: str, following: str | None) -> None:
    data = {"model": "models/a", "fallback": ["a", "models/b", "b", "c"]}
    failure = Transient("no", code="overloaded")
    name_next_model(failure, asked, data)
    assert failure.instead == (Instead({"model": following}, f"gemini:{following}") if following else None)
