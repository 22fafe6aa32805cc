"""The turns of a conversation with tools, from what its tasks have come to, in Gemini's own form.

A model's turn goes back as it came, thought signatures and all. Does not cover which tasks there are (`handler`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gemflowd.handlers.contents import as_json

#: Bytes of one answer of a tool that a model is shown.
MOST_ANSWER: Final = 200_000


def beginning(data: Mapping[str, Any]) -> list[Any]:
    """The turns of the question."""
    if data.get("contents") is None:
        return [{"role": "user", "parts": [{"text": data["prompt"]}]}]
    given = data["contents"]
    return list(given) if isinstance(given, list) else [given]


def in_form(text: str) -> list[dict[str, Any]]:
    """The turns that ask for an answer once more, as JSON."""
    ask = "Give this answer once more, as JSON that fits the schema and nothing else."
    return [{"role": "model", "parts": [{"text": text}]}, {"role": "user", "parts": [{"text": ask}]}]


def answers(calls: Sequence[Mapping[str, Any]], said: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The turn that tells the model what its calls have come to.

    Args:
        calls: as the model made them, `{name, id?, args?}`.
        said: for each `{output}` or `{error}`.
    """
    parts = []
    for call, response in zip(calls, said, strict=True):
        answer: dict[str, Any] = {"name": call["name"], "response": dict(response)}
        if call.get("id"):
            answer["id"] = call["id"]
        parts.append({"function_response": answer})
    return {"role": "user", "parts": parts}


def response(number: int, result: Any) -> dict[str, Any]:
    """What a model is told of a call that was a task: `{output}` or `{error}`. Without a `result` the task has failed."""
    if result is None:
        return {"error": f"the call did not come to its end (task {number})"}
    if isinstance(result, Mapping) and set(result) == {"error"}:
        return {"error": result["error"]}
    text = as_json(result)
    if len(text) > MOST_ANSWER:
        return {"output": text[:MOST_ANSWER].decode("utf-8", "ignore"), "truncated": True, "bytes": len(text)}
    return {"output": json.loads(text)}
