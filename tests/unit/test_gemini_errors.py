"""What the SDK raises, as what the daemon does about it. The SDK's real exceptions, no network."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from google.auth.exceptions import DefaultCredentialsError
from google.genai import errors, types

from gemflowd.handlers.errors import HandlerError, Permanent, RateLimited, Transient
from gemflowd.handlers.gemini.failures import explain, retry_after, seconds
from gemflowd.handlers.gemini.request import Request, build_request
from gemflowd.handlers.gemini.result import breaks_off, result_of, usage_of, withheld

RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
QUOTA_FAILURE = "type.googleapis.com/google.rpc.QuotaFailure"
#: Where a connection was to go.
_KEY = ConnectionKey("gemini.invalid", 443, True, True, None, None, None)
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def answered(status: int, message: str = "why", details: list[dict[str, Any]] | None = None) -> HandlerError:
    body = {"error": {"code": status, "message": message, "status": "WORD", "details": details or []}}
    kind = errors.ClientError if status < 500 else errors.ServerError
    return explain(kind(status, body, None), 30.0)


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, Permanent, "bad_request"),
        (401, Permanent, "unauthenticated"),
        (403, Permanent, "permission_denied"),
        (404, Permanent, "not_found"),
        (405, Permanent, "client_error"),
        (408, Transient, "timeout"),
        (413, Permanent, "request_too_large"),
        (500, Transient, "server_error"),
        (503, Transient, "overloaded"),
        (504, Transient, "timeout"),
        (529, Transient, "server_error"),
    ],
)
def test_status_codes(status: int, kind: type[HandlerError], code: str) -> None:
    failure = answered(status)
    assert type(failure) is kind
    assert failure.code == code
    assert failure.message == f"Gemini answered {status} WORD: why"


def test_a_bad_key_is_told_from_a_bad_request() -> None:
    details = [{"@type": ERROR_INFO, "reason": "API_KEY_INVALID"}]
    assert answered(400, details=details).code == "bad_api_key"


@pytest.mark.parametrize(
    ("message", "details", "delay"),
    [
        ("Please retry in 7s.", [{"@type": RETRY_INFO, "retryDelay": "36s"}], 36.0),
        ("no hint", [{"@type": RETRY_INFO, "retryDelay": "0.25s"}], 0.25),
        ("Please retry in 36.4s.", [], 36.4),
        ("Please retry in 836.5ms.", [], 0.8365),
        ("Please retry in 1h2m3.5s.", [{"@type": RETRY_INFO}], 3723.5),
        ("no hint", [], None),
    ],
)
def test_429_says_when_to_come_back(message: str, details: list[dict[str, Any]], delay: float | None) -> None:
    failure = answered(429, message, details)
    assert isinstance(failure, RateLimited)
    assert failure.code == "rate_limited"
    assert failure.retry_after == (pytest.approx(delay) if delay is not None else None)


def test_429_names_the_quota_and_tells_a_daily_one() -> None:
    details = [{"@type": QUOTA_FAILURE, "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}]
    failure = answered(429, details=details)
    assert failure.code == "daily_quota"
    assert "GenerateRequestsPerDayPerProjectPerModel" in failure.message


@pytest.mark.parametrize("body", [[], [{"error": {"message": "m", "status": "S"}}], "text", {"error": "text"}, None])
def test_429_of_any_shape_is_a_429(body: Any) -> None:
    class Raw(errors.ClientError):
        def __init__(self) -> None:
            Exception.__init__(self)
            self.code, self.status, self.message, self.details, self.response = 429, None, None, body, None

    assert isinstance(explain(Raw(), 30.0), RateLimited)


def test_durations_and_headers() -> None:
    assert [seconds(text) for text in ("0s", "36.4s", "1m", "2ms", "", "soon", "-1s")] == [
        0,
        36.4,
        60,
        0.002,
        *[None] * 3,
    ]
    assert retry_after([], "", {"retry-after": "12"}) == 12.0
    assert retry_after([], "", {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}) is None


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (TimeoutError(), Transient, "timeout"),
        (aiohttp.ServerTimeoutError(), Transient, "timeout"),
        (aiohttp.ServerDisconnectedError(), Transient, "disconnected"),
        (aiohttp.ClientPayloadError("incomplete"), Transient, "disconnected"),
        (ConnectionResetError("reset"), Transient, "disconnected"),
        (aiohttp.ClientOSError(104, "reset"), Transient, "disconnected"),
        (aiohttp.ClientConnectorError(_KEY, OSError(113, "no route")), Transient, "connection_failed"),
        (OSError(24, "too many open files"), Transient, "connection_failed"),
        (aiohttp.InvalidURL("nonsense"), Permanent, "bad_endpoint"),
        (json.JSONDecodeError("bad", "x" * 10_000, 3), Transient, "bad_response"),
        (errors.UnknownApiResponseError("raw " + "x" * 10_000), Transient, "bad_response"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), Transient, "bad_response"),
        (ValueError("only supported in Vertex"), Permanent, "bad_request"),
        (DefaultCredentialsError("none"), Permanent, "unauthenticated"),
        (KeyError("surprise"), Transient, "unexpected_error"),
    ],
)
def test_other_exceptions(error: Exception, kind: type[HandlerError], code: str) -> None:
    failure = explain(error, 30.0)
    assert type(failure) is kind
    assert failure.code == code
    assert len(failure.message) < 200


# --- answers with status 200 that are no success ---


def response(**fields: Any) -> types.GenerateContentResponse:
    usage = {"promptTokenCount": 10, "cachedContentTokenCount": 4, "thoughtsTokenCount": 5, "totalTokenCount": 15}
    return types.GenerateContentResponse.model_validate({"usageMetadata": usage, "modelVersion": "m-001", **fields})


def candidate(finish: str | None, *texts: str) -> dict[str, Any]:
    parts = [{"text": text} for text in texts]
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish}]}


def asked(**data: Any) -> Request:
    return build_request({"model": "m", "prompt": "x", **data})


def test_usage_and_result() -> None:
    answer = response(**candidate("STOP", "a", "b"))
    usage = usage_of(answer)
    assert usage == {
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "output_tokens": 0,
        "thought_tokens": 5,
        "total_tokens": 15,
    }
    expected = {"text": "ab", "finish_reason": "STOP", "model": "m-001", "usage": usage}
    assert result_of(answer, asked(), usage) == expected


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (candidate("SAFETY"), Permanent, "blocked_safety"),
        (candidate("RECITATION"), Permanent, "blocked_recitation"),
        (candidate("MAX_TOKENS"), Permanent, "max_tokens"),
        (candidate("STOP"), Permanent, "empty_answer"),
        (candidate("STOP", ""), Permanent, "empty_answer"),
        (candidate("OTHER"), Permanent, "empty_answer"),
        (candidate("MALFORMED_RESPONSE"), Transient, "bad_response"),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, Permanent, "blocked_safety"),
        ({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, Permanent, "blocked_prohibited_content"),
        ({"promptFeedback": {"blockReason": "OTHER"}}, Permanent, "blocked_other"),
        ({}, Transient, "bad_response"),
    ],
)
def test_no_text(answer: dict[str, Any], kind: type[HandlerError], code: str) -> None:
    with pytest.raises(HandlerError) as caught:
        result_of(response(**answer), asked(), {"total_tokens": 15})
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert caught.value.usage == {"total_tokens": 15}


def test_truncated_text_is_still_a_text() -> None:
    assert result_of(response(**candidate("MAX_TOKENS", "half a")), asked(), {})["finish_reason"] == "MAX_TOKENS"


def test_a_text_that_was_blocked_on_the_way_is_no_answer() -> None:
    for finish, code in (("SAFETY", "blocked_safety"), ("RECITATION", "blocked_recitation")):
        failure = withheld(result_of(response(**candidate(finish, "half a")), asked(), {"total_tokens": 15}))
        assert failure is not None
        assert (failure.code, failure.usage) == (code, {"total_tokens": 15})
    for finish in ("STOP", "MAX_TOKENS", "OTHER"):
        assert withheld(result_of(response(**candidate(finish, "half a")), asked(), {})) is None


def test_json_that_is_cut() -> None:
    whole, cut = (
        result_of(response(**candidate(end, '{"a":')), asked(schema={"type": "object"}), {})
        for end in ("STOP", "MAX_TOKENS")
    )
    assert breaks_off(whole) is None
    failure = breaks_off(cut)
    assert failure is not None
    assert failure.code == "max_tokens"


def test_function_calls_are_an_answer() -> None:
    part = {"functionCall": {"name": "look_up", "args": {"q": 1}}}
    answer = response(candidates=[{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}])
    result = result_of(answer, asked(), {})
    assert result["text"] == ""
    assert result["function_calls"] == [{"name": "look_up", "args": {"q": 1}}]
