"""The hook between the `gemini` handler and the cache: which requests are the same, who asks the cache and in which way, and what a
stored answer becomes."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest

from gemflowctl.commands.call_options import TIERS as CTL_TIERS
from gemflowctl.commands.call_options import WORDS as CTL_WORDS
from gemflowctl.commands.call_options import say
from gemflowd.handlers.errors import Permanent, RateLimited
from gemflowd.handlers.gemini.cached import answer, key_of
from gemflowd.handlers.gemini.request import build_request
from gemflowd.model.cache import WORDS
from gemflowd.model.tiers import TIERS
from gemflowd.worker.context import AsyncContext

DATA = {"model": "m", "prompt": "hello"}
RESULT = {"text": "hi", "finish_reason": "STOP", "model": "m-1", "usage": {"prompt_tokens": 2, "total_tokens": 3}}


def key(data: dict[str, Any], environment: dict[str, str] | None = None, **settings: Any) -> bytes:
    return key_of(build_request({**DATA, **data}), settings, environment or {})


@pytest.mark.parametrize(
    "data",
    [
        {"prompt": "hello!"},
        {"model": "n"},
        {"system": "Be brief."},
        {"config": {"temperature": 0}},
        {"config": {"seed": 1}},
        {"config": {"maxOutputTokens": 5}},
        {"schema": {"type": "object"}},
        {"schema": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}},
        {"schema": {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}}},
        {"prompt": None, "contents": [{"role": "model", "parts": [{"text": "hello"}]}]},
        {"prompt": None, "contents": ["hello", "hello"]},
        {"prompt": None, "contents": [{"parts": [{"inlineData": {"mimeType": "a/b", "data": "AAAA"}}]}]},
        {"prompt": None, "contents": [{"parts": [{"inlineData": {"mimeType": "a/b", "data": "AAAB"}}]}]},
    ],
)
def test_what_changes_the_answer_changes_the_key(data: dict[str, Any]) -> None:
    assert key(data) != key({})
    assert key(data) == key(data)
    assert len(key(data)) == 32


def test_the_order_inside_of_a_schema_counts() -> None:
    ab, ba = ({name: {"type": "string"} for name in names} for names in ("ab", "ba"))
    assert key({"schema": {"properties": ab}}) != key({"schema": {"properties": ba}})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"prompt": "hello"}, {"prompt": None, "contents": ["hello"]}),
        ({"prompt": "hello"}, {"prompt": None, "contents": {"role": "user", "parts": [{"text": "hello"}]}}),
        ({"model": "m"}, {"model": "models/m"}),
        ({"config": {"temperature": 0, "topP": 1}}, {"config": {"top_p": 1.0, "temperature": 0.0}}),
        ({"system": "s"}, {"config": {"systemInstruction": "s"}}),
        ({}, {"config": {"labels": {"team": "a"}, "serviceTier": "flex"}}),
        ({"cache": "on"}, {"cache": "read"}),
    ],
)
def test_what_is_the_same_request_has_the_same_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert key(one) == key(other)


def test_an_answer_belongs_to_who_gave_it() -> None:
    url = "http://127.0.0.1:1"
    places = [
        key({}),
        key({}, gemini_endpoint=url),
        key({}, gemini_api_version="v1beta"),
        key({}, {"GOOGLE_GENAI_USE_VERTEXAI": "true"}),
        key({}, gemini_offline=True, gemini_endpoint=url),
    ]
    assert len(set(places)) == len(places)
    assert key({}, {"GOOGLE_GEMINI_BASE_URL": url}) == key({}, gemini_endpoint=url)
    assert key({}, gemini_offline=True, gemini_endpoint=url) == key({}, gemini_offline=True, gemini_endpoint=url + "2")
    assert key({}, {"GEMINI_API_KEY": "one"}) == key({}, {"GEMINI_API_KEY": "two"}), "no secret is in a key"


class Daemon:
    """Answers what the hook asks."""

    def __init__(self, found: dict[str, Any] | None = None) -> None:
        self.found = found or {"lead": True}
        self.asked: list[tuple[str, Any]] = []
        self.calls = 0
        self.result: dict[str, Any] = RESULT
        self.said: list[tuple[str, str]] = []

    async def __call__(self, op: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((op, body.get("mode")))
        return self.found if op == "cache_begin" else {}

    async def model(self, data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
        self.calls += 1
        return self.result

    def run(self, data: dict[str, Any], *, note: Any = None, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The task's result, and its attempt's usage."""
        context = AsyncContext(
            1, 1, None, "gemini", 1, 30.0, {}, settings, lambda *said: self.said.append(said), _ask=self
        )
        context.note = note
        return asyncio.run(answer({**DATA, **data}, context, self.model)), context.usage


@pytest.mark.parametrize(
    ("data", "settings", "mode"),
    [
        ({}, {}, None),
        ({"config": {"temperature": 0}}, {}, "on"),
        ({"config": {"temperature": 0.0}}, {"cache": "auto"}, "on"),
        ({"config": {"temperature": 0.1}}, {"cache": "auto"}, None),
        ({"config": {"temperature": 0}, "cache": "off"}, {}, None),
        ({"config": {"temperature": 0}}, {"cache": "off"}, None),
        ({"cache": "auto"}, {"cache": "on"}, None),
        ({"cache": "auto", "config": {"temperature": 0}}, {"cache": "off"}, "on"),
        ({}, {"cache": "on"}, "on"),
        ({"cache": "on"}, {}, "on"),
        ({"cache": "read"}, {}, "read"),
        ({"cache": "write"}, {}, "write"),
        ({"cache": "refresh"}, {"cache": "off"}, "refresh"),
        ({"config": {"temperature": 0}}, {"cache": "read"}, "read"),
    ],
)
def test_who_asks_the_cache_and_how(data: dict[str, Any], settings: dict[str, Any], mode: str | None) -> None:
    daemon = Daemon()
    assert daemon.run(data, **settings) == (RESULT, {})
    assert daemon.asked == ([] if mode is None else [("cache_begin", mode)])
    assert daemon.calls == 1


def test_a_stored_answer_says_so_and_costs_nothing() -> None:
    daemon = Daemon({"value": msgpack.packb(RESULT)})
    result, usage = daemon.run({"cache": "on"})
    assert result == {**RESULT, "cached": True}
    assert usage == {"cached": True, "saved_tokens": 3, "saved": RESULT["usage"]}
    assert daemon.calls == 0


def test_a_quota_that_somebody_else_has_met() -> None:
    with pytest.raises(RateLimited) as limited:
        Daemon({"wait": 2.5}).run({"cache": "on"})
    assert limited.value.retry_after == 2.5


@pytest.mark.parametrize("finish", ["MAX_TOKENS", None])
def test_an_answer_that_is_not_whole_is_for_nobody_else(finish: str | None) -> None:
    daemon = Daemon()
    daemon.result = {**RESULT, "finish_reason": finish}
    daemon.run({"cache": "on"})
    assert daemon.asked == [("cache_begin", "on"), ("cache_leave", None)]


def test_an_answer_of_another_model_is_for_nobody_else() -> None:
    daemon = Daemon()
    daemon.run({"cache": "on", "fallback": ["n"]}, note={"model": "n"})
    assert daemon.asked == [("cache_begin", "on"), ("cache_leave", None)]


def test_a_stored_answer_is_told_to_who_listens() -> None:
    daemon = Daemon({"value": msgpack.packb({**RESULT, "text": "x" * 10_000})})
    daemon.run({"cache": "on", "stream": True})
    assert [stream for stream, _ in daemon.said] == ["text"] * 3
    assert "".join(text for _, text in daemon.said) == "x" * 10_000


def test_bad_words_are_refused_before_anything_is_asked() -> None:
    daemon = Daemon()
    for data, code in (({"cache": "maybe"}, "bad_request"), ({"cache": "on", "files": ["a"]}, "not_supported")):
        with pytest.raises(Permanent) as refused:
            daemon.run(data)
        assert refused.value.code == code
    assert (daemon.asked, daemon.calls) == ([], 0)


def test_a_setting_for_all_is_no_demand_on_those_with_files() -> None:
    daemon = Daemon()
    daemon.run({"files": ["a"]}, cache="on")
    assert (daemon.asked, daemon.calls) == ([], 1)


def test_the_client_knows_the_same_words() -> None:
    assert CTL_WORDS == WORDS
    assert CTL_TIERS == TIERS


def test_the_option_is_written_into_tasks_that_call_a_model() -> None:
    tasks: list[dict[str, Any]] = [
        {"type": "gemini", "data": {"prompt": "a"}},
        {"type": "gemini", "data": {"prompt": "a", "cache": "off"}},
        {"id": "x", "task": "b", "agent": "researcher", "deps": ["y"]},
        {"type": "echo", "data": {"prompt": "a"}},
        {"type": "gemini", "data": "bad"},
    ]
    for task in tasks:
        say(task, {"cache": "on"})
    assert tasks == [
        {"type": "gemini", "data": {"prompt": "a", "cache": "on"}},
        {"type": "gemini", "data": {"prompt": "a", "cache": "off"}},
        {"id": "x", "type": "gemini", "data": {"prompt": "b", "agent": "researcher", "cache": "on"}, "deps": ["y"]},
        {"type": "echo", "data": {"prompt": "a"}},
        {"type": "gemini", "data": "bad"},
    ]
