"""What a `gemini` task may ask for beside a prompt, by the real SDK against the real stand-in: files, schemas, streams, other models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest

from gemflowd.handlers.errors import Again, HandlerError, Instead, Permanent, RateLimited, Transient
from gemflowd.handlers.gemini.handler import count, embed, gemini, shutdown
from gemflowd.standin.options import Options
from gemflowd.standin.server import serve
from tests.helpers.contexts import Said, make_context

TEXT = "Summarize.\n\nThe river rose to 4.2 m. About 1,200 people left their homes. Nobody was hurt."
LONG = " ".join(f"The river number {number} rose to {number}.5 m in the spring of that year." for number in range(12))
SCHEMA = {"type": "object", "properties": {"people": {"type": "integer"}}, "required": ["people"]}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "no-key")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Caller:
    """Calls handlers as a worker does."""

    def __init__(self, url: str, tmp_path: Path) -> None:
        self.settings: dict[str, Any] = {"gemini_endpoint": url, "workspace": str(tmp_path / "workspace")}
        self.log = tmp_path / "requests.jsonl"
        self.usage: dict[str, Any] = {}
        self.said = Said()

    async def __call__(
        self,
        data: Mapping[str, Any],
        *,
        handler: Callable[..., Awaitable[dict[str, Any]]] = gemini,
        note: Any = None,
        agains: int = 1,
    ) -> dict[str, Any]:
        context, self.said = make_context("gemini", settings=self.settings)
        context.note, context.agains = note, agains if note else 0
        try:
            return await handler({"model": "m", **data}, context)
        finally:
            self.usage = context.usage

    async def fails(self, data: Mapping[str, Any], **how: Any) -> HandlerError:
        with pytest.raises(HandlerError) as caught:
            await self(data, **how)
        return caught.value

    def requests(self, *outcomes: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if not outcomes or line["outcome"] in outcomes]


def scenario(tmp_path: Path, test: Callable[[Caller], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with await serve("127.0.0.1", 0, Options(log_file=tmp_path / "requests.jsonl", **options)) as stand_in:
            (tmp_path / "workspace" / "flows" / "7").mkdir(parents=True)
            try:
                await test(Caller(stand_in.url, tmp_path))
            finally:
                await shutdown()

    asyncio.run(run())


def put(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "workspace" / "flows" / "7" / name).write_bytes(content)


# Structured answers


def test_an_answer_that_does_not_fit_is_asked_for_again(tmp_path: Path) -> None:
    data = {"prompt": f"{TEXT} [[stand-in:mismatch times=2]]", "schema": SCHEMA}

    async def run(call: Caller) -> None:
        first = await call.fails(data)
        assert isinstance(first, Again)
        assert first.code == "schema_mismatch"
        assert "is not of type" in first.message
        assert first.usage == call.usage
        assert call.usage["total_tokens"] > 0
        assert isinstance(first.instead, Instead)
        assert first.instead.note["answer"].startswith("[")
        second = await call.fails(data, note=msgpack.unpackb(msgpack.packb(first.instead.note)))
        assert isinstance(second, Again)
        assert second.instead is not None
        assert second.instead.note["reasks"] == 2
        assert (await call(data, note=second.instead.note, agains=2))["parsed"] == {"people": 1200}
        asked = [line["prompt"] for line in call.requests()]
        assert len(set(asked)) == 2, "with the answer and what is wrong with it"

    scenario(tmp_path, run)


def test_it_is_not_asked_for_ever(tmp_path: Path) -> None:
    data = {"prompt": f"{TEXT} [[stand-in:bad_json]]", "schema": SCHEMA}
    note = {"model": None, "reasks": 2, "answer": "x", "complaint": "y"}

    async def run(call: Caller) -> None:
        failure = await call.fails(data, note=note)
        assert (type(failure), failure.code) == (Permanent, "bad_json")
        assert isinstance(await call.fails({**data, "max_reasks": 3}, note=note), Again)
        assert isinstance(await call.fails({**data, "max_reasks": 0}), Permanent)
        call.settings["max_reasks"] = 0
        assert isinstance(await call.fails(data), Permanent)
        assert isinstance(await call.fails({**data, "max_reasks": 1}), Again)
        assert isinstance(await call.fails({**data, "max_reasks": 1}, note=note, agains=0), Again), "retried since"

    scenario(tmp_path, run)


def test_a_schema_that_is_none_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    async def run(call: Caller) -> None:
        for schema in ({"type": "strng"}, {"$ref": "https://example.org/x.json"}):
            failure = await call.fails({"prompt": "x", "schema": schema})
            assert (type(failure), failure.code) == (Permanent, "bad_schema")
        assert call.requests() == []

    scenario(tmp_path, run)


# Other models


def test_the_next_model_where_one_can_not_be_had(tmp_path: Path) -> None:
    data = {"model": "a", "fallback": ["b", "c"]}

    async def run(call: Caller) -> None:
        for marker, kind, code in (("503", Transient, "overloaded"), ("404", Permanent, "not_found")):
            failure = await call.fails({**data, "prompt": f"[[stand-in:{marker}]] {TEXT}"})
            assert (type(failure), failure.code) == (kind, code)
            assert failure.instead == Instead({"model": "b"}, "gemini:b")
        failure = await call.fails({**data, "prompt": f"[[stand-in:503]] {TEXT}"}, note={"model": "b"})
        assert failure.instead == Instead({"model": "c"}, "gemini:c")
        failure = await call.fails({**data, "prompt": f"[[stand-in:503]] {TEXT}"}, note={"model": "c"})
        assert failure.instead is None, "there is no other"
        for marker in ("400", "500", "safety", "429 retry=1"):
            assert (await call.fails({**data, "prompt": f"[[stand-in:{marker}]] {TEXT}"})).instead is None
        failure = await call.fails({**data, "prompt": f"[[stand-in:429 retry=1 daily=1]] {TEXT}"})
        assert (type(failure), failure.code) == (RateLimited, "daily_quota")
        assert failure.instead == Instead({"model": "b"}, "gemini:b")
        assert (await call({**data, "prompt": TEXT}, note={"model": "b"}))["model"] == "b-stand-in"
        mismatch = {**data, "prompt": f"[[stand-in:mismatch]] {TEXT}", "schema": SCHEMA}
        again = await call.fails(mismatch, note={"model": "b"})
        assert again.instead is not None
        assert again.instead.note["model"] == "b", "the same model is asked again"
        assert again.instead.bucket is None

    scenario(tmp_path, run)


def test_the_tier_of_service(tmp_path: Path) -> None:
    async def run(call: Caller) -> None:
        assert (await call({"prompt": TEXT, "service_tier": "flex"}))["usage"]["service_tier"] == "flex"
        assert (await call({"prompt": TEXT}))["usage"]["service_tier"] == "standard"
        assert [line["tier"] for line in call.requests()] == ["flex", "standard"]

    scenario(tmp_path, run)


# Files


def test_small_files_go_along_and_large_ones_are_uploaded(tmp_path: Path) -> None:
    async def run(call: Caller) -> None:
        put(tmp_path, "a.png", PNG)
        put(tmp_path, "notes", "Grüße".encode())
        plain = await call({"prompt": TEXT})
        with_files = await call({"prompt": TEXT, "files": ["a.png", {"path": "notes", "mime_type": "text/plain"}]})
        assert with_files["text"] == plain["text"]
        assert with_files["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"] + 2 * 258
        assert len(call.requests()) == 2
        call.settings["gemini_inline_mb"] = 1
        put(tmp_path, "large.mp4", bytes(3 << 19))
        large = await call({"prompt": TEXT, "files": ["a.png", "large.mp4"]})
        assert large["usage"] == with_files["usage"]
        steps = [line["outcome"] for line in call.requests()[2:]]
        assert steps == ["started", "received", "stored", "answered", "deleted"]
        again = await call({"prompt": TEXT, "files": ["a.png", "large.mp4"]})
        assert again == large
        answered = call.requests("answered")
        assert answered[-1]["prompt"] == answered[-2]["prompt"] != answered[0]["prompt"], "by content, not by name"

    scenario(tmp_path, run)


def test_an_upload_goes_also_when_the_call_fails(tmp_path: Path) -> None:
    async def run(call: Caller) -> None:
        call.settings["gemini_inline_mb"] = 1
        put(tmp_path, "large.pdf", bytes(2 << 20))
        failure = await call.fails({"prompt": f"[[stand-in:500]] {TEXT}", "files": ["large.pdf"]})
        assert failure.code == "server_error"
        assert [line["outcome"] for line in call.requests()] == ["started", "received", "stored", "refused", "deleted"]

    scenario(tmp_path, run)


def test_files_that_are_refused(tmp_path: Path) -> None:
    async def run(call: Caller) -> None:
        call.settings["gemini_max_file_mb"] = 1
        put(tmp_path, "what.ever", b"\xff\xfe\x00\x01 binary \xff")
        put(tmp_path, "large.bin", bytes((1 << 20) + 1))
        (tmp_path / "workspace" / "flows" / "7" / "link").symlink_to("/etc/hostname")
        for name, code in (
            ("what.ever", "unknown_mime_type"),
            ("large.bin", "too_large"),
            ("../../../x", "outside_workspace"),
            ("/etc/hostname", "outside_workspace"),
            ("link", "outside_workspace"),
            ("missing.png", "not_found"),
        ):
            failure = await call.fails({"prompt": TEXT, "files": [name]})
            assert (type(failure), failure.code) == (Permanent, code), name
        assert call.requests() == []

    scenario(tmp_path, run)


def test_what_would_have_to_be_uploaded_is_refused_with_vertex_ai(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(call: Caller) -> None:
        call.settings["gemini_inline_mb"] = 1
        put(tmp_path, "large.mp4", bytes(2 << 20))
        failure = await call.fails({"prompt": TEXT, "files": ["large.mp4"]})
        assert (type(failure), failure.code) == (Permanent, "not_supported")
        assert "gemini_inline_mb" in failure.message
        assert call.requests() == []

    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_API_KEY", "no-key")
    scenario(tmp_path, run)


# Streams


def test_the_pieces_of_a_stream_are_the_answer(tmp_path: Path) -> None:
    async def run(call: Caller) -> None:
        whole = await call({"prompt": LONG})
        streamed = await call({"prompt": LONG, "stream": True})
        assert streamed == whole
        assert "".join(call.said.stream("text")) == whole["text"]
        assert streamed["usage"] == call.usage
        schema = await call({"prompt": TEXT, "schema": SCHEMA, "stream": True})
        assert schema["parsed"] == {"people": 1200}
        assert [line["path"].rpartition(":")[2] for line in call.requests()[1:]] == ["streamGenerateContent"] * 2

    scenario(tmp_path, run)


def test_a_stream_that_comes_to_no_answer(tmp_path: Path) -> None:
    async def run(call: Caller) -> None:
        for marker, kind, code in (
            ("break", Transient, "disconnected"),
            ("disconnect", Transient, "disconnected"),
            ("503", Transient, "overloaded"),
            ("429 retry=3", RateLimited, "rate_limited"),
            ("safety", Permanent, "blocked_safety"),
            ("blocked", Permanent, "blocked_safety"),
            ("max_tokens", Permanent, "max_tokens"),
            ("empty", Permanent, "empty_answer"),
        ):
            failure = await call.fails({"prompt": f"[[stand-in:{marker}]] {LONG}", "stream": True})
            assert (type(failure), failure.code) == (kind, code), marker
            assert call.said.lines[-1][1].startswith("[attempt 1 is not an answer: ")
            if marker == "break":
                assert call.said.stream("text"), "what came before stays"
                assert call.usage["prompt_tokens"] > 0

    scenario(tmp_path, run)


# Embeddings and tokens


def test_embeddings(tmp_path: Path) -> None:
    async def run(call: Caller) -> None:
        result = await call({"texts": ["rivers rise", "rivers fall", "tax law"], "dimensions": 64}, handler=embed)
        assert (len(result["embeddings"]), result["dimensions"], result["model"]) == (3, 64, "m")
        assert result["usage"] == call.usage
        assert result["usage"]["prompt_tokens"] > 0
        a, b, c = result["embeddings"]
        assert sum(x * y for x, y in zip(a, b, strict=True)) > sum(x * y for x, y in zip(a, c, strict=True))
        one = await call({"text": "rivers rise", "dimensions": 64, "task_type": "CLUSTERING"}, handler=embed)
        assert one["embeddings"] == [a]
        limited = await call.fails({"text": "[[stand-in:429 retry=2]]"}, handler=embed)
        assert isinstance(limited, RateLimited)
        assert limited.retry_after == 2.0

    scenario(tmp_path, run)


def test_tokens_are_counted_and_not_asked(tmp_path: Path) -> None:
    async def run(call: Caller) -> None:
        put(tmp_path, "a.png", PNG)
        plain = await call({"prompt": TEXT}, handler=count)
        assert plain["total_tokens"] == -(-len(TEXT) // 4)
        more = await call({"prompt": TEXT, "system": "Be brief.", "files": ["a.png"]}, handler=count)
        assert more["total_tokens"] > plain["total_tokens"] + 258
        assert [line["outcome"] for line in call.requests()] == ["counted"] * 2

    scenario(tmp_path, run)
