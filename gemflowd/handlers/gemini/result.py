"""From the SDK's response to the task's result. An answer with status 200 is not yet a success.

`text` is None when the answer was blocked, or when thinking used up `max_output_tokens`; `parsed` is None when the
JSON is broken; neither raises anything by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.errors import HandlerError, Permanent, Transient
from gemflowd.handlers.gemini.request import Request

if TYPE_CHECKING:
    from google.genai import types

#: Why an answer without text ended, and the code for it.
_CODES: Final = {
    "SAFETY": "blocked_safety",
    "IMAGE_SAFETY": "blocked_safety",
    "RECITATION": "blocked_recitation",
    "BLOCKLIST": "blocked_blocklist",
    "PROHIBITED_CONTENT": "blocked_prohibited_content",
    "SPII": "blocked_spii",
    "LANGUAGE": "blocked_language",
    "MODEL_ARMOR": "blocked_model_armor",
    "JAILBREAK": "blocked_jailbreak",
    "MAX_TOKENS": "max_tokens",
    "CONTINUATION": "max_tokens",
}
_TRUNCATED: Final = ("MAX_TOKENS", "CONTINUATION")
_MALFORMED: Final = ("MALFORMED_RESPONSE", "MALFORMED_FUNCTION_CALL")


def usage_of(response: Any) -> dict[str, Any]:
    """What an answer or embedding cost, in tokens. Prompt tokens include the cached ones; thoughts are billed as output."""
    found = response.usage_metadata
    if found is None:
        return {}
    usage: dict[str, Any] = {
        "prompt_tokens": found.prompt_token_count or 0,
        "cached_tokens": getattr(found, "cached_content_token_count", None) or 0,
        "output_tokens": getattr(found, "candidates_token_count", None) or 0,
        "thought_tokens": getattr(found, "thoughts_token_count", None) or 0,
        "total_tokens": getattr(found, "total_token_count", None) or found.prompt_token_count or 0,
    }
    if more := getattr(found, "tool_use_prompt_token_count", None):
        usage["tool_prompt_tokens"] = more
    if tier := _headers(response).get("x-gemini-service-tier"):
        usage["service_tier"] = tier
    return usage


def result_of(response: types.GenerateContentResponse, request: Request, usage: dict[str, Any]) -> dict[str, Any]:
    """The task's result.

    Raises:
        Permanent: there is no text, and asking again would give none.
        Transient: the answer is malformed; asking again may help.
    """
    candidate = response.candidates[0] if response.candidates else None
    finish = _word(candidate.finish_reason) if candidate else None
    text = response.text
    calls = [call.model_dump(mode="json", exclude_none=True) for call in response.function_calls or []]
    if not text and not calls:
        raise _without_text(response, finish, usage)
    result: dict[str, Any] = {
        "text": text or "",
        "finish_reason": finish,
        "model": response.model_version or request.model,
        "usage": usage,
    }
    if calls:
        result["function_calls"] = calls
        if candidate is not None and candidate.content is not None:
            # The whole turn, for a question that goes on from here: it has thought signatures, which must go back as they came.
            result["content"] = candidate.content.model_dump(mode="json", exclude_none=True)
    return result | stand_in(response)


def breaks_off(result: Mapping[str, Any]) -> Permanent | None:
    """Why an answer is not JSON, where it is cut: it would break off at the same place again."""
    if result["finish_reason"] not in _TRUNCATED:
        return None
    message = "the JSON of the answer breaks off: raise `max_output_tokens`"
    return Permanent(message, code="max_tokens", usage=result["usage"])


def withheld(result: Mapping[str, Any]) -> Permanent | None:
    """Why a text is no answer, although there is some: Gemini has blocked what would have followed."""
    reason = result["finish_reason"]
    if reason in _TRUNCATED or reason not in _CODES:
        return None
    message = (
        f"Gemini broke its answer off after {len(result['text'])} characters: {reason}; they are in the task's log"
    )
    return Permanent(message, code=_CODES[reason], usage=result["usage"])


def embeddings_of(
    response: types.EmbedContentResponse, wanted: int, model: str, usage: dict[str, Any]
) -> dict[str, Any]:
    """The result of an embedding.

    Raises:
        Transient: `bad_response`: there is not one for each text.
    """
    found = [embedding.values or [] for embedding in response.embeddings or []]
    if len(found) != wanted or not all(found):
        message = f"Gemini answered with {len(found)} embeddings for {wanted} texts"
        raise Transient(message, code="bad_response", usage=usage)
    return {"embeddings": found, "dimensions": len(found[0]), "model": model, "usage": usage} | stand_in(response)


def stand_in(response: Any) -> dict[str, Any]:
    """Says so where it was no model that answered."""
    return {"stand_in": True} if _headers(response).get("x-gemflow-stand-in") else {}


def _without_text(response: types.GenerateContentResponse, finish: str | None, usage: dict[str, Any]) -> HandlerError:
    blocked = response.prompt_feedback.block_reason if response.prompt_feedback else None
    if blocked is not None:
        reason = _word(blocked) or "OTHER"
        code = _CODES.get(reason, "blocked_other")
        return Permanent(f"Gemini blocked the prompt: {reason}", code=code, usage=usage)
    if not response.candidates:
        return Transient("Gemini answered without a candidate", code="bad_response", usage=usage)
    if finish in _MALFORMED:
        return Transient(f"Gemini's answer is malformed: {finish}", code="bad_response", usage=usage)
    code = _CODES.get(finish or "", "empty_answer")
    if code == "max_tokens":
        thoughts = usage.get("thought_tokens", 0)
        return Permanent(
            f"the answer has no text: `max_output_tokens` was used up ({thoughts} tokens of it by thinking); raise it, "
            "or set a smaller thinking budget",
            code=code,
            usage=usage,
        )
    what = "answer has no text" if code == "empty_answer" else "answer was blocked"
    return Permanent(f"Gemini's {what}: {finish or 'no reason given'}", code=code, usage=usage)


def _word(reason: Any) -> str | None:
    """The name of an enum's member, also of one that is newer than the SDK."""
    return None if reason is None else str(getattr(reason, "value", reason))


def _headers(response: Any) -> Mapping[str, str]:
    raw = response.sdk_http_response.headers if response.sdk_http_response else None
    return {name.lower(): value for name, value in (raw or {}).items()}
