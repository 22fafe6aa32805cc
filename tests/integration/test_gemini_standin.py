"""The real google-genai, through the handler, against the real stand-in on a loopback port."""

from __future__ import annotations

import asyncio
import json
import os
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gemflowd.handlers.errors import Again, HandlerError, Permanent, RateLimited, Transient
from gemflowd.handlers.gemini import client
from gemflowd.handlers.gemini.handler import gemini, preload, shutdown
from gemflowd.standin.options import Options
from gemflowd.standin.server import serve
from tests.helpers.contexts import make_context

KEY = "AIzaSyTheKeyThatNobodyMaySee0123456789"
TEXT = "Summarize.\n\nThe river rose to 4.2 m. About 1,200 people left their homes. Nobody was hurt."


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("GOOGLE_", "GEMINI_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Asker:
    """Calls the handler as a worker does."""

    def __init__(self, url: str | None) -> None:
        self.settings: dict[str, Any] = {"gemini_endpoint": url}
        self.usage: dict[str, Any] = {}

    async def __call__(self, prompt: str = TEXT, *, timeout: float = 30.0, **data: Any) -> dict[str, Any]:
        context, _ = make_context("gemini", timeout=timeout, settings=self.settings)
        try:
            return await gemini({"model": "gemini-x", "prompt": prompt, **data}, context)
        finally:
            self.usage = context.usage

    async def fail(self, prompt: str = TEXT, **data: Any) -> HandlerError:
        with pytest.raises(HandlerError) as caught:
            await self(prompt, **data)
        # Not in the message, and not in what a traceback would print either.
        assert KEY not in "".join(traceback.format_exception(caught.value))
        return caught.value


@asynccontextmanager
async def asking(options: Options | None = None) -> AsyncIterator[Asker]:
    async with await serve("127.0.0.1", 0, options or Options()) as stand_in:
        try:
            yield Asker(stand_in.url)
        finally:
            await shutdown()


def scenario(test: Callable[[Asker], Awaitable[None]], options: Options | None = None) -> None:
    async def run() -> None:
        async with asking(options) as ask:
            await test(ask)

    asyncio.run(run())


def log_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_answer(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"

    async def run(ask: Asker) -> None:
        result = await ask(system="You are a researcher.")
        assert result["text"].startswith("[stand-in] ")
        assert "4.2" in result["text"]
        assert result["finish_reason"] == "STOP"
        assert result["model"] == "gemini-x-stand-in"
        assert result["stand_in"] is True
        assert result["usage"] == ask.usage
        usage = result["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["output_tokens"] > 0
        assert await ask(system="You are a researcher.") == result

    scenario(run, Options(log_file=log))
    lines = log_of(log)
    assert [(line["status"], line["model"], line["stand_in"]) for line in lines] == [(200, "gemini-x", True)] * 2
    assert lines[0]["prompt"] == lines[1]["prompt"]
    assert "river" not in log.read_text()


def test_a_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"people": {"type": "integer"}, "summary": {"type": "string"}},
        "required": ["people", "summary"],
    }

    async def run(ask: Asker) -> None:
        result = await ask(schema=schema)
        assert result["parsed"]["people"] == 1200
        assert json.loads(result["text"]) == result["parsed"]
        upper = {"type": "OBJECT", "properties": {"people": {"type": "INTEGER"}}, "required": ["people"]}
        assert (await ask(config={"response_schema": upper, "response_mime_type": "application/json"}))["parsed"] == {
            "people": 1200
        }
        failure = await ask.fail(f"{TEXT} [[stand-in:bad_json]]", schema=schema)
        assert (type(failure), failure.code) == (Again, "bad_json")
        assert ask.usage["total_tokens"] > 0
        cut = await ask.fail(schema=schema, config={"max_output_tokens": 1})
        assert (type(cut), cut.code) == (Permanent, "max_tokens")

    scenario(run)


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("400", Permanent, "bad_request"),
        ("401", Permanent, "unauthenticated"),
        ("403", Permanent, "permission_denied"),
        ("404", Permanent, "not_found"),
        ("500", Transient, "server_error"),
        ("503", Transient, "overloaded"),
        ("504", Transient, "timeout"),
        ("malformed", Transient, "bad_response"),
        ("disconnect", Transient, "disconnected"),
        ("safety", Permanent, "blocked_safety"),
        ("blocked", Permanent, "blocked_safety"),
        ("max_tokens", Permanent, "max_tokens"),
        ("empty", Permanent, "empty_answer"),
        ("429", RateLimited, "rate_limited"),
    ],
)
def test_a_fault_is_one_request_and_one_error(fault: str, kind: type[HandlerError], code: str, tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"

    async def run(ask: Asker) -> None:
        failure = await ask.fail(f"[[stand-in:{fault} times=1]] {TEXT}")
        assert (type(failure), failure.code) == (kind, code)
        assert len(log_of(log)) == 1  # nothing was sent again behind our back
        assert "text" in await ask(f"[[stand-in:{fault} times=1]] {TEXT}")  # and the connection is usable

    scenario(run, Options(log_file=log))


def test_usage_of_a_failed_attempt_is_kept() -> None:
    async def run(ask: Asker) -> None:
        failure = await ask.fail(f"[[stand-in:max_tokens]] {TEXT}", config={"max_output_tokens": 77})
        assert failure.usage == ask.usage
        assert ask.usage["thought_tokens"] == 77

    scenario(run)


@pytest.mark.parametrize(
    ("marker", "delay"),
    [("429 retry=0.2", 0.2), ("429 retry=36.4 details=no", 36.4), ("429 retry=0", 0.0), ("429", None)],
)
def test_429_says_when_to_come_back(marker: str, delay: float | None) -> None:
    async def run(ask: Asker) -> None:
        failure = await ask.fail(f"[[stand-in:{marker}]] {TEXT}")
        assert isinstance(failure, RateLimited)
        assert failure.retry_after == delay

    scenario(run)


def test_a_quota_of_the_stand_in() -> None:
    async def run(ask: Asker) -> None:
        await ask()
        await ask("other")
        failure = await ask.fail("third")
        assert isinstance(failure, RateLimited)
        assert failure.retry_after is not None
        assert 3000 < failure.retry_after <= 3600
        assert "PerHour" in failure.message

    scenario(run, Options(quota=2, window=3600.0))


def test_the_deadline_is_for_the_whole_call() -> None:
    async def run(ask: Asker) -> None:
        failure = await ask.fail(f"[[stand-in:slow seconds=60]] {TEXT}", timeout=0.3)
        assert (type(failure), failure.code) == (Transient, "timeout")

    scenario(run)


def test_cancelling_is_passed_on() -> None:
    async def run(ask: Asker) -> None:
        call = asyncio.ensure_future(ask(f"[[stand-in:slow seconds=60]] {TEXT}"))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    scenario(run)


def test_nobody_there() -> None:
    async def run() -> None:
        async with asking() as ask:
            url = ask.settings["gemini_endpoint"]
        failure = await Asker(url).fail()
        assert (type(failure), failure.code) == (Transient, "connection_failed")
        assert url.removeprefix("http://") in failure.message
        wrong = await Asker("nonsense").fail()
        assert (type(wrong), wrong.code) == (Permanent, "bad_endpoint")
        await shutdown()

    asyncio.run(run())


def test_more_than_a_hundred_calls_at_once() -> None:
    """The SDK's own client stops at 100 connections, and the calls beyond wait without a word."""

    async def run(ask: Asker) -> None:
        results = await asyncio.gather(*(ask(f"Number {number}. Nothing else.") for number in range(300)))
        assert len({result["text"] for result in results}) == 300
        (session,) = client._HELD[asyncio.get_running_loop()].sessions.values()
        assert session.connector is not None
        assert session.connector.limit == 0

    scenario(run, Options(latency=0.2))


def test_the_key_never_shows(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Also where the server quotes it: the prompt stands in for a message that does."""

    async def run(ask: Asker) -> None:
        result = await ask(f"{KEY} is here. One. Two.")
        assert KEY in result["text"]  # an answer is the task's own business, it is not ours to change
        pattern = {"type": "string", "pattern": f"^{KEY}x$"}
        failure = await ask.fail(schema=pattern)  # the stand-in's 400 quotes the pattern
        assert "[key removed]" in failure.message

    caplog.set_level(0)
    scenario(run)
    assert KEY not in caplog.text


def test_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")

    async def run(ask: Asker) -> None:
        failure = await ask.fail()
        assert (type(failure), failure.code) == (Permanent, "no_api_key")
        assert "--offline" in failure.message
        ask.settings["gemini_offline"] = True
        assert (await ask())["stand_in"] is True

    scenario(run)


def test_a_rotated_key_is_taken_up_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")
    file = tmp_path / "key"

    async def run(ask: Asker) -> None:
        ask.settings["gemini_api_key_file"] = str(file)
        clients = []
        for key in ("first", "first", "second"):
            file.write_text(key)
            await ask()
            held = client._HELD[asyncio.get_running_loop()]
            clients.append(held.client)
            assert held.connection is not None
            assert held.connection.key == key
            assert len(held.sessions) == 1
        assert clients[0] is clients[1] is not clients[2]

    scenario(run)


def test_endpoint_by_environment_and_version_by_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"

    async def run(ask: Asker) -> None:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", ask.settings.pop("gemini_endpoint"))
        ask.settings["gemini_api_version"] = "v1beta"
        await ask()

    scenario(run, Options(log_file=log))
    assert log_of(log)[0]["path"] == "/v1beta/models/gemini-x:generateContent"


def test_each_loop_has_its_own_client() -> None:
    async def run(ask: Asker) -> None:
        await ask()

    scenario(run)
    scenario(run)


def test_preload_leaves_nothing_open() -> None:
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    preload({"gemini_offline": True})
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before
