"""JSON Schemas of the data of `gemini`, `gemini.embed` and `gemini.count`: what is refused when a task is submitted.

The names in `config` are the SDK's, and a test holds them together with the installed one. Their values are only looked at as far as a
slip of the hand goes; the rest is for the SDK's own models, in the worker, and for Gemini.
"""

from __future__ import annotations

from typing import Any, Final

from gemflowd.handlers.workspace import NAME_SCHEMA
from gemflowd.model.cache import WORDS
from gemflowd.model.calls import OURS
from gemflowd.model.tiers import TIERS

_NUMBER: Final = {"type": "number"}
_COUNT: Final = {"type": "integer", "minimum": 1}
_TEXT: Final = {"type": "string"}
_TRUTH: Final = {"type": "boolean"}
_MAP: Final = {"type": "object"}
_TIER: Final = {"type": "string", "enum": ["flex", "standard", "priority"]}
#: Gemini's generation settings by name, with the type of the simple ones.
CONFIG: Final[dict[str, dict[str, Any]]] = {
    "audio_timestamp": _TRUTH,
    "audio_transcription_config": _MAP,
    "cached_content": _TEXT,
    "candidate_count": _COUNT,
    "continuation_token": _TEXT,
    "enable_enhanced_civic_answers": _TRUTH,
    "frequency_penalty": _NUMBER,
    "generation_output_config": _MAP,
    "image_config": _MAP,
    "labels": _MAP,
    "logprobs": {"type": "integer", "minimum": 0},
    "max_output_tokens": _COUNT,
    "media_resolution": {},
    "model_armor_config": _MAP,
    "model_selection_config": _MAP,
    "presence_penalty": _NUMBER,
    "response_json_schema": {},
    "response_logprobs": _TRUTH,
    "response_mime_type": _TEXT,
    "response_modalities": {"type": "array", "items": _TEXT},
    "response_schema": {},
    "routing_config": _MAP,
    "safety_settings": {"type": "array", "items": _MAP},
    "seed": {"type": "integer"},
    "service_tier": _TEXT,
    "speech_config": {},
    "stop_sequences": {"type": "array", "items": _TEXT},
    "store": _TRUTH,
    "system_instruction": {},
    "temperature": {"type": "number", "minimum": 0},
    "thinking_config": _MAP,
    "tool_config": _MAP,
    "tools": {"type": "array"},
    "top_k": {"type": "number", "minimum": 1},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _settings() -> dict[str, Any]:
    """Each name in both spellings. A template may stand for any value; what it gives is checked in the worker."""
    known: dict[str, Any] = {}
    for name, rule in CONFIG.items():
        allowed = rule
        if rule.get("type") not in (None, "string"):  # what the rule says of numbers or lists, it does not say of texts
            allowed = {**rule, "type": [rule["type"], "string"], "pattern": r"\{\{"}
        known[name] = known[_camel(name)] = allowed
    # Known, so that the worker says why not.
    known.update((spelling, True) for name in OURS for spelling in (name, _camel(name)))
    return {"type": "object", "properties": known, "additionalProperties": False}


_MODEL: Final = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._@/-]{0,254}$"}
_FILE: Final = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "properties": {"path": {"type": "string", "minLength": 1}, "mime_type": {"type": "string", "minLength": 3}},
            "required": ["path"],
            "additionalProperties": False,
        },
    ]
}
_QUESTION: Final[dict[str, Any]] = {
    "prompt": {"type": "string", "minLength": 1},
    "contents": {"type": ["string", "array", "object"], "minLength": 1, "minItems": 1},
    "system": {"type": "string"},
    "model": _MODEL,
    "files": {"type": "array", "items": _FILE, "maxItems": 100},
    "workspace": NAME_SCHEMA,
}
_ONE_OF: Final[dict[str, Any]] = {
    "oneOf": [{"required": ["prompt"]}, {"required": ["contents"]}],
    "x-hint": "give `prompt` or `contents`, one of them",
    "additionalProperties": False,
}
#: Of a `gemini` task.
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        **_QUESTION,
        "agent": {"type": "string"},
        "config": _settings(),
        "schema": {"type": "object", "$ref": "https://json-schema.org/draft/2020-12/schema"},
        "max_reasks": {"type": "integer", "minimum": 0, "maximum": 20},
        "fallback": {"type": "array", "items": _MODEL, "maxItems": 10, "uniqueItems": True},
        "tier": {"type": "string", "enum": list(TIERS)},
        "deadline": {"type": ["number", "string"]},
        "service_tier": _TIER,
        "stream": {"type": "boolean"},
        "cache": {"enum": list(WORDS)},
        "template": {"type": "boolean"},
    },
    **_ONE_OF,
}
#: Of a `gemini.count` task.
COUNT_SCHEMA: Final[dict[str, Any]] = {"type": "object", "properties": _QUESTION, **_ONE_OF}
#: Of a `gemini.embed` task.
EMBED_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "minLength": 1},
        "texts": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 100},
        "model": _MODEL,
        "task_type": {
            "type": "string",
            "enum": [
                "RETRIEVAL_QUERY",
                "RETRIEVAL_DOCUMENT",
                "SEMANTIC_SIMILARITY",
                "CLASSIFICATION",
                "CLUSTERING",
                "QUESTION_ANSWERING",
                "FACT_VERIFICATION",
                "CODE_RETRIEVAL_QUERY",
            ],
        },
        "title": {"type": "string"},
        "dimensions": {"type": "integer", "minimum": 1},
    },
    "required": ["model"],
    "oneOf": [{"required": ["text"]}, {"required": ["texts"]}],
    "x-hint": "give `model`, and `text` or `texts`, one of them",
    "additionalProperties": False,
}
