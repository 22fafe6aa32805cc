"""A task's data as one SDK call: what is passed on, and what a task may not ask for."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from gemflowd.handlers.errors import Permanent
from gemflowd.handlers.gemini.request import build_request


def test_prompt_system_and_schema() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    request = build_request({"model": "m", "prompt": "hello", "system": "Be brief.", "schema": schema})
    assert request.model == "m"
    assert [(content.role, content.parts[0].text) for content in request.contents if content.parts] == [
        ("user", "hello")
    ]
    assert request.config.system_instruction == "Be brief."
    assert request.config.response_json_schema == schema
    assert request.config.response_mime_type == "application/json"
    assert request.structured


def test_one_task_is_one_request() -> None:
    config = build_request({"model": "m", "prompt": "x"}).config
    assert config.automatic_function_calling is not None
    assert config.automatic_function_calling.disable is True
    assert config.automatic_continuation is False


def test_contents_in_any_form() -> None:
    data = base64.b64encode(b"\xff\x00").decode()
    contents: list[Any] = [
        "one",
        {"parts": [{"text": "two"}]},
        {"role": "model", "parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]},
        {"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": b"\xff\x00"}}]},
    ]
    found = build_request({"model": "m", "contents": contents}).contents
    assert [content.role for content in found] == ["user", "user", "model", "user"]
    for content in found[2:]:
        assert content.parts is not None
        assert content.parts[0].inline_data is not None
        assert content.parts[0].inline_data.data == b"\xff\x00"
    assert len(build_request({"model": "m", "contents": "one"}).contents) == 1
    assert len(build_request({"model": "m", "contents": {"parts": [{"text": "one"}]}}).contents) == 1


def test_a_later_spelling_of_a_setting_wins() -> None:
    config = {"max_output_tokens": 1, "maxOutputTokens": 2, "thinkingConfig": {"thinkingBudget": 0}}
    found = build_request({"model": "m", "prompt": "x", "config": config}).config
    assert found.max_output_tokens == 2
    assert found.thinking_config is not None
    assert found.thinking_config.thinking_budget == 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"model": None}, "no_model"),
        ({"service_tier": "flex", "config": {"service_tier": "priority"}}, "bad_request"),
        ({"agent": "researcher"}, "unknown_agent"),
        ({"config": {"http_options": {"base_url": "https://elsewhere.example"}}}, "not_supported"),
        ({"config": {"httpOptions": {"baseUrl": "https://elsewhere.example"}}}, "not_supported"),
        ({"config": {"automaticFunctionCalling": {"disable": False}}}, "not_supported"),
        ({"config": {"candidateCount": 3}}, "not_supported"),
        ({"config": {"response_modalities": ["IMAGE"]}}, "not_supported"),
        ({"config": {"temperature": "warm"}}, "bad_request"),
        ({"config": {"temprature": 1}}, "bad_request"),
        ({"system": "a", "config": {"system_instruction": "b"}}, "bad_request"),
        ({"schema": {"type": "object"}, "config": {"response_schema": {"type": "object"}}}, "bad_request"),
        ({"prompt": None, "contents": [{"part": []}]}, "bad_request"),
        ({"prompt": ""}, "bad_request"),
    ],
)
def test_what_is_refused(data: dict[str, Any], code: str) -> None:
    with pytest.raises(Permanent) as caught:
        build_request({"model": "m", "prompt": "x", **data})
    assert caught.value.code == code
    assert "elsewhere" not in caught.value.message
