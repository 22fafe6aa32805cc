"""What may be said together in a question to a model, and what may not. Pure.

The same rules hold when a task is submitted and, once its templates are rendered, in the worker. Does not cover the shape of each field
(the schema of the type) and what the SDK and the model itself make of a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

#: Task types that these rules are about.
TYPES: Final = frozenset({"gemini", "gemini.tools"})
#: Those that name the model that they ask, and are limited by it.
OF_A_MODEL: Final = TYPES | {"gemini.embed", "gemini.count"}
#: Settings that a task may not have, and why.
OURS: Final = {
    "http_options": "where requests go is a matter of the daemon's settings",
    "should_return_http_response": "the answer is always read",
    "automatic_function_calling": "one task is one request; function calls come back in the result",
    "automatic_continuation": "one task is one request",
}
#: Settings that one way to Gemini has and the other has not: the SDK refuses them.
VERTEX_ALONE: Final = frozenset(
    {"audio_timestamp", "generation_output_config", "model_armor_config", "model_selection_config", "routing_config"}
)
NOT_VERTEX: Final = frozenset({"enable_enhanced_civic_answers", "store"})
#: Settings that say that an answer is JSON: no question may have them beside functions.
OF_FORM: Final = frozenset({"response_mime_type", "response_schema", "response_json_schema"})
_SCHEMAS: Final = ("response_schema", "response_json_schema")
_JSON: Final = "application/json"
_TOOLS: Final = ("max_hops", "hop")
_VARIABLES: Final = ("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE")
_PREFIX: Final = "models/"
_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Misfit(NamedTuple):
    """Attributes:
    code: `not_supported`, or `bad_request`: two things that exclude each other.
    field: path within the data.
    """

    code: str
    field: str
    message: str


def uses_vertex(environment: Mapping[str, str]) -> bool:
    """Whether the environment asks the SDK for Vertex AI, read as the SDK reads it."""
    return any(environment.get(name, "").lower() in ("true", "1") for name in _VARIABLES)


def plain_model(name: str) -> str:
    """A model's name without the `models/` that it may be written with: it is the same model, with one price and one quota."""
    return name.removeprefix(_PREFIX) or name


def with_plain_models(data: dict[str, Any]) -> dict[str, Any]:
    """The data of a question, its models named as `plain_model` has it; the same data where they are."""
    named = {"model": data.get("model"), "fallback": data.get("fallback")}
    plain = {name: _plain(value) for name, value in named.items() if value is not None}
    return data if all(data[name] == value for name, value in plain.items()) else {**data, **plain}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return plain_model(value) if isinstance(value, str) else value


def setting_name(key: str) -> str:
    """A setting of `config` as the SDK names it: `maxOutputTokens` is `max_output_tokens`."""
    return _WORD_START.sub("_", key).lower()


def misfit(data: Mapping[str, Any], *, vertex: bool | None) -> Misfit | None:
    """What is wrong with a question as a whole; None: nothing. What has not the shape of a question is not looked at.

    Args:
        data: of a task of one of `TYPES`.
        vertex: whether it goes to Vertex AI; None: what only one way to Gemini has is not looked at.
    """
    if data.get("tools"):
        if data.get("files"):
            message = "don't go with `tools`: give it the tool read_file, or the file in `contents` (or `tools`: [], for none)"
            return Misfit("not_supported", "files", message)
    else:
        for name in _TOOLS:
            if name in data:
                return Misfit("bad_request", name, "goes with `tools`")
    config = data.get("config")
    if not isinstance(config, Mapping) or not config:
        return None
    # A persona's and a task's spelling may differ, as in maxOutputTokens and max_output_tokens: the later one wins.
    said = {setting_name(str(key)): (f"config.{key}", value) for key, value in config.items()}
    return _of_settings(said, vertex=vertex) or _of_pairs(data, said)


def _of_settings(said: Mapping[str, tuple[str, Any]], *, vertex: bool | None) -> Misfit | None:
    for name, (field, value) in said.items():
        if name in OURS:
            return Misfit("not_supported", field, f"can't be set by a task: {OURS[name]}")
        if value is not None and vertex is not None and name in (NOT_VERTEX if vertex else VERTEX_ALONE):
            where = "the Gemini API, not with Vertex AI" if vertex else "Vertex AI, not with the Gemini API"
            return Misfit("not_supported", field, f"is there with {where}: leave it out")
        if name == "candidate_count" and isinstance(value, int) and value > 1:
            return Misfit("not_supported", field, "more than one answer is not supported: submit several tasks")
        # What a template stands for is looked at once it is rendered.
        words = value if name == "response_modalities" and isinstance(value, list) else ()
        if any(str(word).upper() != "TEXT" and "{{" not in str(word) for word in words):
            return Misfit("not_supported", field, "answers other than TEXT are not supported")
    return None


def _of_pairs(data: Mapping[str, Any], said: Mapping[str, tuple[str, Any]]) -> Misfit | None:
    for ours, names in (
        ("system", ("system_instruction",)),
        ("service_tier", ("service_tier",)),
        ("schema", _SCHEMAS),
        ("tools", ("tools",)),
    ):
        for name in names:
            field, value = said.get(name, ("", None))
            if value and data.get(ours):
                return Misfit("bad_request", field, f"give `{ours}` or `config.{name}`, not both")
    field, form = said.get("response_mime_type", ("", None))
    if data.get("schema") is not None and form is not None and form != _JSON and "{{" not in str(form):
        return Misfit("bad_request", field, f"an answer by `schema` is {_JSON}: leave it out")
    if all(said.get(name, ("", None))[1] for name in _SCHEMAS):
        return Misfit("bad_request", said[_SCHEMAS[1]][0], f"give `{_SCHEMAS[0]}` or `{_SCHEMAS[1]}`, not both")
    return None
