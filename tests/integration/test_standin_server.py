"""The stand-in as a server: its REST shapes, and how it starts and ends as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gemflowd.model.errors import ConfigError
from gemflowd.standin.options import Options
from gemflowd.standin.server import serve

BODY = {"contents": [{"parts": [{"text": "Summarize.\n\nOne is here. Two is there. Three is nowhere at all."}]}]}


def scenario(test: Callable[[aiohttp.ClientSession], Awaitable[None]]) -> None:
    async def run() -> None:
        async with await serve("127.0.0.1", 0, Options()) as stand_in, aiohttp.ClientSession(stand_in.url) as session:
            await test(session)

    asyncio.run(run())


async def post(session: aiohttp.ClientSession, path: str, body: Any = BODY) -> tuple[int, Any]:
    async with session.post(path, json=body) as response:
        assert response.headers["x-gemflow-stand-in"] == "1"
        return response.status, await response.json()


def test_any_version_and_the_paths_of_vertex() -> None:
    async def run(session: aiohttp.ClientSession) -> None:
        for path in (
            "/v1/models/m:generateContent",
            "/v1beta/models/m:generateContent",
            "/v9/tunedModels/m:generateContent",
            "/v1beta1/projects/p/locations/l/publishers/google/models/m:generateContent",
        ):
            status, body = await post(session, path)
            assert (status, body["modelVersion"]) == (200, "m-stand-in")

    scenario(run)


def test_a_stream_says_the_same_as_an_answer() -> None:
    async def run(session: aiohttp.ClientSession) -> None:
        long = {"contents": [{"parts": [{"text": "Go on: " + "A word or two comes here. " * 50}]}]}
        _, whole = await post(session, "/v1/models/m:generateContent", long)
        async with session.post("/v1/models/m:streamGenerateContent?alt=sse", json=long) as response:
            assert response.content_type == "text/event-stream"
            raw = await response.text()
        assert raw.endswith("\r\n\r\n")
        events = [json.loads(event.removeprefix("data: ")) for event in raw.split("\r\n\r\n")[:-1]]
        text = "".join(event["candidates"][0]["content"]["parts"][0]["text"] for event in events)
        assert text == whole["candidates"][0]["content"]["parts"][0]["text"]
        assert [event["candidates"][0].get("finishReason") for event in events] == [None] * (len(events) - 1) + ["STOP"]

    scenario(run)


def test_tokens_and_models() -> None:
    async def run(session: aiohttp.ClientSession) -> None:
        status, body = await post(session, "/v1/models/m:countTokens")
        assert (status, body["totalTokens"]) == (200, 16)
        async with session.get("/v1/models/any-name") as response:
            assert (await response.json())["name"] == "models/any-name"
        await post(session, "/v1/models/asked:generateContent")
        async with session.get("/v1beta/models") as response:
            names = [model["name"] for model in (await response.json())["models"]]
        assert names == ["models/gemini-stand-in", "models/m", "models/asked"]

    scenario(run)


def test_errors_have_googles_shape() -> None:
    async def run(session: aiohttp.ClientSession) -> None:
        for path, body, status in [
            ("/v1/models/m:embedContent", BODY, 404),
            ("/v1/files", BODY, 404),
            ("/", BODY, 404),
            ("/v1/models/m:generateContent", {"contents": []}, 400),
            ("/v1/models/m:generateContent", [], 400),
        ]:
            found, answer = await post(session, path, body)
            assert found == answer["error"]["code"] == status
            assert answer["error"]["status"] in ("NOT_FOUND", "INVALID_ARGUMENT")
            assert answer["error"]["message"].startswith("[stand-in] ")
        async with session.post("/v1/models/m:generateContent", data=b"{not json") as response:
            assert response.status == 400

    scenario(run)


def test_a_lone_surrogate_does_not_break_an_answer() -> None:
    async def run(session: aiohttp.ClientSession) -> None:
        raw = b'{"contents": [{"parts": [{"text": "One \\ud800 is here. Two. Three."}]}]}'
        for path in ("/v1/models/m:generateContent", "/v1/models/m:streamGenerateContent?alt=sse"):
            async with session.post(path, data=raw) as response:
                assert response.status == 200
                await response.read()

    scenario(run)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_it_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(ConfigError):
        asyncio.run(serve(host, 0, Options()))


# --- as a process ---


@contextmanager
def process(code: str, *fds: int, **options: Any) -> Iterator[subprocess.Popen[str]]:
    full = f"from gemflowd.standin.options import Options\nfrom gemflowd.standin.process import run\n{code}"
    with subprocess.Popen(
        [sys.executable, "-c", full], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=fds, **options
    ) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_ready_and_ends_on_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    with process("run(Options())") as started:
        assert started.stdout is not None
        word, url = started.stdout.readline().split()
        assert word == "READY"
        assert url.startswith("http://127.0.0.1:")
        started.send_signal(number)
        output, errors = started.communicate()
        assert (started.returncode, output, errors) == (0, "", "")


def test_it_ends_with_its_parent_and_says_ready_where_it_is_told_to() -> None:
    parent_read, parent_write = os.pipe()
    ready_read, ready_write = os.pipe()
    code = f"run(Options(parent_fd={parent_read}, ready_fd={ready_write}))"
    with process(code, parent_read, ready_write) as started:
        os.close(parent_read)
        os.close(ready_write)
        assert os.read(ready_read, 100).startswith(b"READY http://127.0.0.1:")
        os.close(parent_write)
        assert started.communicate() == ("", "")
        assert started.returncode == 0
    os.close(ready_read)
