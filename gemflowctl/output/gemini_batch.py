"""Result lines as Google's Batch API writes them: `{"key", "response"}` or `{"key", "error"}`. Pure.

What the daemon does not keep of a response (safety ratings, log probabilities, its id) is not in it. An answer without text,
such as a blocked one, has failed here and is an `error`; there it would be a response without parts.
"""

from __future__ import annotations

from typing import Any, Final

from gemflowctl.errors import InvalidInput
from gemflowctl.steps import Body

_USAGE: Final = {
    "prompt_tokens": "promptTokenCount",
    "cached_tokens": "cachedContentTokenCount",
    "output_tokens": "candidatesTokenCount",
    "thought_tokens": "thoughtsTokenCount",
    "tool_prompt_tokens": "toolUsePromptTokenCount",
    "total_tokens": "totalTokenCount",
}
#: Those that are always there; of the others zeros are left out, as Google does.
_ALWAYS: Final = ("prompt_tokens", "output_tokens", "total_tokens")

#: Codes of google.rpc.Code, by our code, else by the class of the error, else by the task's state.
_CODES: Final = {
    "bad_request": 3,
    "invalid_data": 3,
    "request_too_large": 3,
    "not_supported": 12,
    "not_found": 5,
    "permission_denied": 7,
    "unauthenticated": 16,
    "no_credentials": 16,
    "conflict": 10,
    "cancelled_by_server": 1,
    "server_error": 13,
    "overloaded": 14,
    "timeout": 4,
    "rate_limited": 8,
    "memory": 8,
    "crash": 10,
    "lost": 10,
    "cancelled": 1,
    "skipped": 9,
    "quarantined": 10,
}
_UNKNOWN: Final = 2


def key_of(line: Body) -> str | int:
    """The key of a result line: the task's id, else `task-<number>`."""
    return f"task-{line['number']}" if line.get("id") is None else line["id"]


def to_line(line: Body) -> Body:
    """The line of a result line.

    Raises:
        InvalidInput: it is not the result of a model's call.
    """
    if not line["ok"]:
        return {"key": key_of(line), "error": _status(line)}
    result = line.get("result")
    if not isinstance(result, dict) or not isinstance(result.get("text"), str):
        raise InvalidInput(
            f"task {line['number']} is of type {line.get('type')}: only results of `gemini` tasks can be written as gemini-batch"
        )
    return {"key": key_of(line), "response": _response(result)}


def _response(result: Body) -> Body:
    parts: list[Body] = [{"text": result["text"]}] if result["text"] else []
    parts += [{"functionCall": call} for call in result.get("function_calls") or ()]
    candidate: Body = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if result.get("finish_reason"):
        candidate["finishReason"] = result["finish_reason"]
    response: Body = {"candidates": [candidate]}
    usage = result.get("usage") or {}
    counts = {
        name: usage[ours] for ours, name in _USAGE.items() if usage.get(ours) or (ours in _ALWAYS and ours in usage)
    }
    if counts:
        response["usageMetadata"] = counts
    if result.get("model"):
        response["modelVersion"] = result["model"]
    return response


def _status(line: Body) -> Body:
    """A google.rpc.Status, with our own words as its ErrorInfo."""
    error: dict[str, Any] = line.get("error") or {}
    words = [word for word in (error.get("code"), error.get("class"), line["state"]) if word]
    return {
        "code": next((_CODES[word] for word in words if word in _CODES), _UNKNOWN),
        "message": error.get("message") or f"the task was {line['state']}",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": str(words[0]).upper(),
                "domain": "gemflow",
                "metadata": {"state": line["state"], "task": str(line["number"])},
            }
        ],
    }
