"""What a request asks for, out of a body in camelCase, snake_case or a mixture of both, as clients send it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_FUNCTIONS: Final = re.compile(r'"function_?[dD]eclarations":')
_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CHARACTERS_A_TOKEN: Final = 4
_TOKENS_A_FILE: Final = 258  # what Gemini counts for a small image
_FILE_URI: Final = re.compile(r"/(files/(\w+?)(?:-\d+)?)$")


class BadRequest(Exception):
    """The body is not what the service takes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for content."""

    system: str
    prompt: str  # the texts of the last turn that is not the model's; with a schema, of all those turns
    everything: str  # the texts of all turns, for counting
    schema: Mapping[str, Any] | None
    wants_json: bool
    max_tokens: int | None
    turns: tuple[str, ...] = ()  # the text of each turn
    attachments: tuple[str, ...] = ()  # of each file a name for its content
    files: tuple[str, ...] = ()  # those of the Files API, by name
    tier: str = "standard"  # of service
    answered: int = 0  # how often functions have been answered so far
    said: tuple[str, ...] = ()  # what they have answered last, as JSON

    @property
    def digest(self) -> str:
        """Names the prompt in the log, without telling it."""
        words = "\0".join((self.system, self.everything, *self.attachments))
        return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def tokens(self) -> int:
        return count_tokens(self.system) + count_tokens(self.everything) + _TOKENS_A_FILE * len(self.attachments)


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
    asked = [text for role, text in texts if role != "model"]
    config = _snake(_map(fields.get("generation_config") or {}, "generationConfig"))
    schema = config.get("response_json_schema") or config.get("response_schema")
    if schema is not None and not isinstance(schema, Mapping):
        raise BadRequest("the response schema must be an object")
    most = config.get("max_output_tokens")
    if most is not None and (not isinstance(most, int) or most < 1):
        raise BadRequest("* GenerateContentRequest.generation_config.max_output_tokens: must be positive")
    wants_json = config.get("response_mime_type") == "application/json"
    if wants_json and _FUNCTIONS.search(
        json.dumps(fields.get("tools") or [], default=str)
    ):  # as all models before Gemini 3
        raise BadRequest("Function calling with a response mime type: 'application/json' is unsupported")
    attachments, files = _attachments(turns)
    said = _responses(turns[-1])
    return Asked(
        system=_text(fields.get("system_instruction") or {}),
        # Where JSON is wanted the last turn may only say that the last answer was none.
        prompt="\n\n".join([*(asked if schema is not None or said else asked[-1:]), *said]),
        everything="\n\n".join([*(text for _, text in texts), *(it for turn in turns for it in _responses(turn))]),
        schema=schema,
        wants_json=wants_json,
        max_tokens=most,
        turns=tuple(text for _, text in texts),
        attachments=attachments,
        files=files,
        answered=sum(bool(_responses(turn)) for turn in turns),
        said=said,
        tier=str(fields.get("service_tier") or "standard"),
    )


def text_of(content: Any) -> str:
    """The texts of one content.

    Raises:
        BadRequest: it is none.
    """
    return _text(_map(content, "content"))


def _attachments(turns: list[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What names the content of each file, and the names of those that were uploaded."""
    found, files = [], []
    for turn in turns:
        parts = _map(turn, "contents").get("parts") or []
        for part in parts if isinstance(parts, list) else [parts]:
            fields = _snake(_map(part, "part"))
            if "inline_data" in fields:
                data = str(_map(fields["inline_data"], "inlineData").get("data"))
                found.append(hashlib.sha256(data.encode("ascii", "replace")).hexdigest())
            elif "file_data" in fields:
                uri = str(_snake(_map(fields["file_data"], "fileData")).get("file_uri"))
                match = _FILE_URI.search(uri)
                found.append(match[2] if match else uri)
                files.append(match[1] if match else uri)
    return tuple(found), tuple(files)


def _responses(turn: Any) -> tuple[str, ...]:
    """What functions have answered in a turn."""
    parts = _map(turn, "contents").get("parts") or []
    found = []
    for part in parts if isinstance(parts, list) else [parts]:
        fields = _snake(_map(part, "part"))
        if "function_response" in fields:
            response = _map(fields["function_response"], "functionResponse")
            found.append(json.dumps({"name": response.get("name"), **_map(response.get("response") or {}, "response")}))
    return tuple(found)


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
