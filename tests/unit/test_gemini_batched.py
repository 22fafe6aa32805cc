"""What the `gemini` handler makes of an answer that comes from a batch, and how it tells the daemon that it has judged it: an error
that names another way is about the answer, any other one is not, and the answer is taken again."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gemflowd.handlers.errors import Again, HandlerError, Instead, Parked, RequestRefused, Transient
from gemflowd.handlers.gemini.credentials import Connection
from gemflowd.handlers.gemini.handler import gemini
from gemflowd.handlers.gemini.jobs import packed
from gemflowd.handlers.gemini.tiers import MARGIN
from gemflowd.model.batch import DEADLINE
from gemflowd.worker.context import AsyncContext

NOTE = {"parked": "m", "waits": 2}
USAGE = {"promptTokenCount": 2, "candidatesTokenCount": 1, "totalTokenCount": 3}
GOOD = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}], "usageMetadata": USAGE}


def take(
    found: dict[str, Any], cache: str = "off", _begun: list[str] | None = None, **data: Any
) -> tuple[Any, dict[str, Any]]:
    """What the attempt comes to, and its usage."""

    async def ask(op: str, body: dict[str, Any]) -> dict[str, Any]:
        if op == "batch_take":
            return {"over": DEADLINE} if body["late"] and found == {"waits": True} else found
        if op == "cache_begin" and _begun is not None:
            _begun.append(body["mode"])
            return {"lead": True}
        raise RequestRefused("internal", "a defect")

    context = AsyncContext(1, 1, None, "gemini", 1, 30.0, {}, {}, lambda *_: None, _ask=ask)
    context.note = NOTE
    try:
        result = asyncio.run(gemini({"model": "m", "prompt": "Why?", "cache": cache, **data}, context))
    except HandlerError as failed:
        return failed, context.usage
    return result, context.usage


def answer(**response: Any) -> dict[str, Any]:
    return {"answer": json.dumps({"response": {**GOOD, **response}}).encode()}


def test_an_answer_is_the_result() -> None:
    result, usage = take(answer())
    assert result["text"] == "hi"
    assert (usage["model"], usage["total_tokens"], usage["service_tier"]) == ("m", 3, "batch")


@pytest.mark.parametrize(
    ("cache", "mode"), [("on", "write"), ("write", "write"), ("refresh", "replace"), ("read", None)]
)
def test_an_answer_is_stored_and_no_other_one_is_waited_for(cache: str, mode: str | None) -> None:
    begun: list[str] = []
    result, _ = take(answer(), cache=cache, _begun=begun)
    assert result["text"] == "hi"
    assert begun == ([] if mode is None else [mode])


def test_what_fails_beside_the_answer_says_nothing_of_it() -> None:
    failed, usage = take(answer(), cache="write")
    assert (failed.code, failed.instead) == ("internal", None)
    assert usage == {}, "the attempt that has judged it tells what it has cost"


@pytest.mark.parametrize(
    "found",
    [
        answer(candidates=[]),
        {"answer": b"{"},
        {"answer": b'{"error": {"code": 14, "message": "full"}}'},
        {"over": "failed"},
    ],
)
def test_an_answer_that_does_not_do_is_not_to_be_taken_again(found: dict[str, Any]) -> None:
    failed, usage = take(found)
    assert isinstance(failed, Transient)
    assert failed.instead is not None
    assert failed.instead.bucket == "gemini:m"
    assert failed.instead.note == {"waits": 2, "tier": "standard"}
    assert bool(usage) == (b"candidates" in found.get("answer", b""))


@pytest.mark.parametrize(("seconds", "goes"), [(-40, True), (0, False), (5, False), (None, False)])
def test_a_question_waits_for_its_batch_no_longer_than_its_time(seconds: float | None, goes: bool) -> None:
    deadline = {}
    if seconds is not None:  # by then it has to be the standard tier
        until = datetime.now(UTC) + timedelta(seconds=seconds + MARGIN)
        deadline["deadline"] = until.isoformat()
    failed, _ = take({"waits": True}, tier="batch", **deadline)
    if goes:
        assert isinstance(failed, Again)
        assert (failed.code, failed.instead) == (
            DEADLINE,
            Instead({"waits": 2, "tier": "standard"}, "gemini:m", anew=False),
        )
    else:
        assert isinstance(failed, Parked)
        assert failed.instead == Instead(NOTE)
        assert 0 < failed.seconds <= 30


@pytest.mark.parametrize("known", [True, False])
def test_why_google_refuses_a_question_is_told_without_the_key(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "a-key-of-no-known-form" if known else "AIzaSyTheKeyThatNobodyMaySee0123456789"
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    if known:
        monkeypatch.setenv("GEMINI_API_KEY", key)
    error = {"code": 7, "message": f"Consumer 'api_key:{key}' has been suspended."}
    failed, _ = take({"answer": json.dumps({"error": error}).encode()})
    assert failed.code == "permission_denied"
    assert "[key removed]" in failed.message
    assert key not in repr(failed)


def test_an_answer_is_stored_without_the_key() -> None:
    from google.genai import types

    key = "a-key-of-no-known-form"
    error = types.JobError(code=7, message=f"the key {key}", details=[f"see {key}"])
    refused = types.InlinedResponse(metadata={"key": "3"}, error=error)
    job = types.BatchJob(dest=types.BatchJobDestination(inlined_responses=[refused]))
    [(task, found)] = packed(job, Connection(key, None, None).scrub)
    assert task == 3
    assert found.count(b"[key removed]") == 2
    assert key.encode() not in found
