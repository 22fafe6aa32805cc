"""Bodies in the shape of the Gemini REST API: answers, streams, lists of models and errors.

Shapes follow Google's pages for generateContent, countTokens and models, and google.rpc.Status for errors.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from typing import Any, Final

from gemflowd.standin import calls
from gemflowd.standin.extract import MARKER, answer, take_apart, words
from gemflowd.standin.faults import STATUSES, Fault, without_markers
from gemflowd.standin.parse import Asked, count_tokens
from gemflowd.standin.structured import fill

_SUFFIX: Final = "-stand-in"
_CHUNK_WORDS: Final = 12
_DIMENSIONS: Final = 768
_HARM: Final = "HARM_CATEGORY_DANGEROUS_CONTENT"
_RPC: Final = "type.googleapis.com/google.rpc."


def content(model: str, asked: Asked, fault: Fault | None, said: str | None = None) -> dict[str, Any]:
    """A body of generateContent.

    Args:
        said: the answer, where a script has one.

    Raises:
        UnfillableSchema: the schema can't be filled.
    """
    kind = fault.kind if fault else None
    if kind == "blocked":
        return _body(model, asked, None, 0, prompt_feedback={"blockReason": "SAFETY"})
    if kind == "safety":
        rating = {"category": _HARM, "probability": "HIGH", "blocked": True}
        return _body(model, asked, {"finishReason": "SAFETY", "safetyRatings": [rating], "index": 0}, 0)
    if kind == "max_tokens":
        spent = asked.max_tokens or 1024
        candidate = {"content": {"role": "model"}, "finishReason": "MAX_TOKENS", "index": 0}
        return _body(model, asked, candidate, 0, thoughts=spent)
    if kind == "empty":
        return _body(model, asked, {"content": {"role": "model"}, "finishReason": "STOP", "index": 0}, 0)
    if called := calls.parts(asked):
        candidate = {"content": {"role": "model", "parts": called}, "finishReason": "STOP", "index": 0}
        return _body(model, asked, candidate, count_tokens(json.dumps(called)))
    text, finish = _cut(_text(asked, kind) if said is None else said, asked.max_tokens)
    return _body(model, asked, _candidate(text, finish), count_tokens(text))


def stream(body: dict[str, Any]) -> Iterator[bytes]:
    """The same answer as server-sent events; the last one has the finish reason and the usage."""
    candidates = body.get("candidates") or [{}]
    parts = candidates[0].get("content", {}).get("parts")
    if not parts:
        yield event(body)
        return
    if "text" not in parts[0]:
        yield event(body)
        return
    pieces = list(_pieces(parts[0]["text"]))
    for piece in pieces[:-1]:
        yield event({**body, "candidates": [_candidate(piece, None)]})
    yield event({**body, "candidates": [_candidate(pieces[-1], candidates[0]["finishReason"])]})


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode("utf-8", "replace") + b"\r\n\r\n"


def tokens(asked: Asked) -> dict[str, Any]:
    """A body of countTokens."""
    return {"totalTokens": asked.tokens, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": asked.tokens}]}


def embeddings(texts: list[str], dimensions: int | None) -> dict[str, Any]:
    """A body of batchEmbedContents: numbers that depend on the text alone, of length 1."""
    used = sum(map(count_tokens, texts))
    return {
        "embeddings": [{"values": _embedding(text, dimensions or _DIMENSIONS)} for text in texts],
        "usageMetadata": {"promptTokenCount": used, "totalTokenCount": used},
    }


def _embedding(text: str, dimensions: int) -> list[float]:
    """Texts that share words are near each other: the sum of a direction for each word."""
    total = [0.0] * dimensions
    for word in sorted(set(words(text))) or [""]:
        drawn = random.Random(word)  # noqa: S311 - no secret
        total = [before + drawn.gauss(0.0, 1.0) for before in total]
    length = math.sqrt(sum(value * value for value in total)) or 1.0
    return [value / length for value in total]


def described(model: str) -> dict[str, Any]:
    """A model, as in the list of models."""
    return {
        "name": f"models/{model}",
        "baseModelId": model,
        "version": "stand-in",
        "displayName": f"{model} (stand-in)",
        "description": "Not a model: gemflow's stand-in on this machine, which answers with the prompt's own sentences.",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": [
            "generateContent",
            "streamGenerateContent",
            "countTokens",
            "batchGenerateContent",
            "embedContent",
        ],
    }


def error(status: int, message: str, details: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A body of google.rpc.Status, as JSON."""
    body: dict[str, Any] = {"code": status, "message": message, "status": STATUSES[status]}
    if details:
        body["details"] = details
    return {"error": body}


def failure(fault: Fault, model: str) -> tuple[int, dict[str, Any]]:
    """Status and body of a fault that is a status code."""
    status = int(fault.kind)
    if status == 429:
        return status, _quota(fault, model)
    return status, error(status, f"{MARKER}A fault was asked for: {STATUSES[status]}.")


def _quota(fault: Fault, model: str) -> dict[str, Any]:
    message = f"{MARKER}You exceeded your current quota, please check your plan and billing details."
    if fault.seconds is None:
        return error(429, message)
    message += f" Please retry in {fault.seconds:.9g}s."
    if not fault.in_details:
        return error(429, message)
    violation: dict[str, Any] = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_stand_in_requests",
        "quotaId": f"GenerateRequests{'PerDay' if fault.daily else _per(fault.window)}PerProjectPerModel-StandIn",
        "quotaDimensions": {"location": "global", "model": model},
    }
    if fault.quota is not None:  # a 429 by chance or by wish has no quota behind it, and must teach none
        violation["quotaValue"] = str(fault.quota)
    return error(
        429,
        message,
        [
            {"@type": f"{_RPC}QuotaFailure", "violations": [violation]},
            {"@type": f"{_RPC}RetryInfo", "retryDelay": f"{fault.seconds:.9g}s"},
        ],
    )


def _per(seconds: float) -> str:
    """A window as Google's quotas are named."""
    named = {1: "PerSecond", 60: "PerMinute", 3600: "PerHour", 86_400: "PerDay"}
    whole = max(1, round(seconds))
    return named.get(whole, f"Per{whole}Seconds")


def _text(asked: Asked, kind: str | None) -> str:
    prompt = calls.without_calls(without_markers(asked.prompt))
    question = take_apart(prompt, without_markers(asked.system))
    if kind == "bad_json":
        return MARKER + '{"this is": not JSON'
    if kind == "mismatch":  # whatever is wanted, it is none of these
        return '[{"stand-in": null}, "fits no schema"]'
    if asked.schema is not None:
        return json.dumps(fill(asked.schema, question), ensure_ascii=False)
    text = answer(question)
    return json.dumps({"text": text}, ensure_ascii=False) if asked.wants_json else text


def _cut(text: str, most: int | None) -> tuple[str, str]:
    if most is None or count_tokens(text) <= most:
        return text, "STOP"
    return text[: most * 4], "MAX_TOKENS"


def _candidate(text: str, finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return candidate


def _body(
    model: str,
    asked: Asked,
    candidate: dict[str, Any] | None,
    output: int,
    *,
    thoughts: int = 0,
    prompt_feedback: dict[str, Any] | None = None,
) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "promptTokenCount": asked.tokens,
        "totalTokenCount": asked.tokens + output + thoughts,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": asked.tokens}],
    }
    if output:
        usage["candidatesTokenCount"] = output
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    body: dict[str, Any] = {"usageMetadata": usage, "modelVersion": model + _SUFFIX, "responseId": asked.digest}
    if candidate is not None:
        body["candidates"] = [candidate]
    if prompt_feedback is not None:
        body["promptFeedback"] = prompt_feedback
    return body


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of some words, which put together give it back to the letter."""
    all_words = text.split(" ")
    for start in range(0, len(all_words), _CHUNK_WORDS):
        piece = " ".join(all_words[start : start + _CHUNK_WORDS])
        yield piece if start == 0 else f" {piece}"
