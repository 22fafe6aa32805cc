"""Every other endpoint of the stand-in, driven by the SDK's own client: models, files, batches."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.genai import Client, errors, types

from gemflowd.standin.options import Options
from gemflowd.standin.server import serve


def scenario(test: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with (
            await serve("127.0.0.1", 0, Options(**options)) as stand_in,
            aiohttp.ClientSession() as session,
        ):
            retries = types.HttpRetryOptions(attempts=1)
            http = types.HttpOptions(base_url=stand_in.url, retry_options=retries, aiohttp_client=session)
            with Client(api_key="none", vertexai=False, http_options=http) as client:
                await test(client)
                await client.aio.aclose()

    asyncio.run(run())


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


async def ended(client: Client, name: str) -> types.BatchJob:
    while not (job := await client.aio.batches.get(name=name)).done:
        await asyncio.sleep(0.02)
    return job


def request(text: str, **more: Any) -> Any:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}


def test_models() -> None:
    async def run(client: Client) -> None:
        names = [model.name async for model in await client.aio.models.list()]
        assert names == ["models/a", "models/b"]
        assert "batchGenerateContent" in ((await client.aio.models.get(model="a")).supported_actions or [])

    scenario(run, models=("a", "b"))


def test_files() -> None:
    async def run(client: Client) -> None:
        files = client.aio.files
        stored = await files.upload(file=io.BytesIO(b"hello"), config={"mime_type": "text/plain", "display_name": "h"})
        assert (stored.size_bytes, stored.display_name, stored.state) == (5, "h", types.FileState.ACTIVE)
        assert [file.name async for file in await files.list()] == [stored.name]
        assert await files.get(name=str(stored.name)) == stored
        assert await files.download(file=str(stored.name)) == b"hello"
        question: Any = [types.Part.from_uri(file_uri=str(stored.uri), mime_type="text/plain"), "What is it?"]
        assert (await client.aio.models.generate_content(model="a", contents=question)).text
        await files.delete(name=str(stored.name))
        with pytest.raises(errors.ClientError) as gone:
            await files.get(name=str(stored.name))
        assert gone.value.code == 404
        with pytest.raises(errors.ClientError) as unknown:
            await client.aio.models.generate_content(model="a", contents=question)
        assert unknown.value.code == 403

    scenario(run)


def test_a_batch_with_requests_inline(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def run(client: Client) -> None:
        source: Any = [
            request("One. Two.", metadata={"key": "first"}),
            request("[[stand-in:503]] Three.", metadata={"key": "second"}),
            request("[[stand-in:safety]] Four."),
        ]
        job = await client.aio.batches.create(model="a", src=source, config={"display_name": "mine"})
        assert (job.state, job.display_name, job.done) == (types.JobState.JOB_STATE_RUNNING, "mine", False)
        job = await ended(client, str(job.name))
        assert job.state == types.JobState.JOB_STATE_SUCCEEDED
        assert job.dest is not None
        first, second, third = job.dest.inlined_responses or []
        assert (first.metadata, second.metadata) == ({"key": "first"}, {"key": "second"})
        assert first.response is not None
        assert first.response.text
        assert first.response.usage_metadata is not None
        assert second.error is not None
        assert second.error.code == 503
        assert third.response is not None
        assert third.response.text is None
        assert [each.name async for each in await client.aio.batches.list()] == [job.name]
        await client.aio.batches.delete(name=str(job.name))
        with pytest.raises(errors.ClientError):
            await client.aio.batches.get(name=str(job.name))

    scenario(run, batch_seconds=0.05, log_file=log)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["outcome"], line["tier"]) for line in lines if line["method"] == "BATCH"] == [
        ("answered", "batch"),
        ("refused", "batch"),
        ("safety", "batch"),
    ]


def test_a_batch_from_a_file() -> None:
    async def run(client: Client) -> None:
        lines = [{"key": f"k{n}", "request": request(text)} for n, text in enumerate(("One.", "[[stand-in:400]] Two."))]
        content = "\n".join(map(json.dumps, lines)).encode()
        config = types.UploadFileConfig(mime_type="application/jsonl")
        source = await client.aio.files.upload(file=io.BytesIO(content), config=config)
        job = await client.aio.batches.create(model="a", src=str(source.name))
        job = await ended(client, str(job.name))
        assert job.dest is not None
        assert job.dest.file_name is not None
        answers = await client.aio.files.download(file=job.dest.file_name)
        good, bad = (json.loads(line) for line in answers.decode().splitlines())
        assert good["key"] == "k0"
        assert good["response"]["candidates"]
        assert (bad["key"], bad["error"]["code"]) == ("k1", 400)

    scenario(run, batch_seconds=0.05)


def test_batches_that_come_to_nothing() -> None:
    async def run(client: Client) -> None:
        source: Any = [request("[[stand-in:batch_failed]] One.")]
        job = await client.aio.batches.create(model="a", src=source)
        assert (await ended(client, str(job.name))).state == types.JobState.JOB_STATE_FAILED
        source = [request("[[stand-in:batch_expired]] One.")]
        job = await client.aio.batches.create(model="a", src=source)
        assert (await ended(client, str(job.name))).state == types.JobState.JOB_STATE_EXPIRED
        with pytest.raises(errors.ClientError) as missing:
            await client.aio.batches.create(model="a", src="files/none")
        assert missing.value.code == 400

    scenario(run, batch_seconds=0.05)


def test_a_batch_that_is_cancelled() -> None:
    async def run(client: Client) -> None:
        source: Any = [request("One.")]
        job = await client.aio.batches.create(model="a", src=source)
        await client.aio.batches.cancel(name=str(job.name))
        job = await client.aio.batches.get(name=str(job.name))
        assert (job.state, job.dest) == (types.JobState.JOB_STATE_CANCELLED, None)

    scenario(run, batch_seconds=3600)
