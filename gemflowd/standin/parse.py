"""What a request asks for, out of a body in camelCase, snake_case or a mixture of both, as clients send it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CHARACTERS_A_TOKEN: Final = 4


class BadRequest(Exception):
    """The body is not what the service takes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for content."""

    system: str
    prompt: str  # the texts of the last turn that is not the model's
    everything: str  # the texts of all turns, for counting
    schema: Mapping[str, Any] | None
    wants_json: bool
    max_tokens: int | None

    @property
    def digest(self) -> str:
        """Names the prompt in the log, without telling it."""
        return hashlib.sha256(f"{self.system}\0{self.everything}".encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def tokens(self) -> int:
        return count_tokens(self.system) + count_tokens(self.everything)


def count_tokens(text: str) -> int:
    """Four characters make a token, roughly; that is also what the daemon estimates with."""
    return -(-len(text) // _CHARACTERS_A_TOKEN)


def parse(body: Any) -> Asked:
    """Read a body of generateContent or countTokens.

    Raises:
        BadRequest: there are no contents, or something has a type that it can't have.
    """
    if not isinstance(body, Mapping):
        raise BadRequest("the body must be a JSON object")
    fields = _snake(body)
    if "generate_content_request" in fields:
        fields = _snake(_map(fields["generate_content_request"], "generateContentRequest"))
    turns = fields.get("contents")
    if isinstance(turns, Mapping):
        turns = [turns]
    if not isinstance(turns, list) or not turns:
        raise BadRequest("* GenerateContentRequest.contents: contents is not specified")
    texts = [(str(_map(turn, "contents").get("role") or "user"), _text(turn)) for turn in turns]
    prompt = next((text for role, text in reversed(texts) if role != "model"), "")
    config = _snake(_map(fields.get("generation_config") or {}, "generationConfig"))
    schema = config.get("response_json_schema") or config.get("response_schema")
    if schema is not None and not isinstance(schema, Mapping):
        raise BadRequest("the response schema must be an object")
    most = config.get("max_output_tokens")
    if most is not None and (not isinstance(most, int) or most < 1):
        raise BadRequest("* GenerateContentRequest.generation_config.max_output_tokens: must be positive")
    return Asked(
        system=_text(fields.get("system_instruction") or {}),
        prompt=prompt,
        everything="\n\n".join(text for _, text in texts),
        schema=schema,
        wants_json=config.get("response_mime_type") == "application/json",
        max_tokens=most,
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = _map(content, "content").get("parts") or []
    if isinstance(parts, Mapping):
        parts = [parts]
    if not isinstance(parts, list):
        raise BadRequest("parts must be a list")
    return "\n\n".join(str(part["text"]) for part in parts if isinstance(part, Mapping) and part.get("text"))


def _map(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadRequest(f"{name} must be an object")
    return value


def _snake(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {_WORD_START.sub("_", str(key)).lower(): value for key, value in fields.items()}
