"""From a task's data to the arguments of one SDK call.

What a task may not ask for is refused here: where requests go (that would hand the key to anyone), and what makes
several requests of one. Everything else in `config` is Gemini's own vocabulary and only checked by the SDK's models.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.errors import Permanent
from gemflowd.handlers.gemini.before import Before
from gemflowd.model.calls import misfit, plain_model, setting_name

if TYPE_CHECKING:
    from google.genai import types

#: Characters of settings that are remembered.
_SMALL: Final = 16_384


@dataclass(frozen=True, slots=True)
class Request:
    """One call."""

    model: str
    contents: list[types.Content]
    config: types.GenerateContentConfig
    structured: bool  # a schema was given, so the answer must be JSON
    schema: Any = None  # JSON Schema that the answer must fit; None: there is none, or it is of Gemini's own dialect


def build_request(
    data: Mapping[str, Any], before: Before | None = None, attached: Sequence[types.Part] = ()
) -> Request:
    """Translate a task's data.

    Args:
        before: what earlier attempts have come to.
        attached: the task's files.

    Raises:
        Permanent: `not_supported`, `no_model`, `unknown_agent` or `bad_request`.
    """
    before = before or Before()
    if data.get("agent") and not data.get("system"):
        raise Permanent(
            f"the persona {data['agent']!r} was not resolved when the task was submitted", code="unknown_agent"
        )
    if (wrong := misfit(data, vertex=None)) is not None:
        raise Permanent(f"`{wrong.field}`: {wrong.message}", code=wrong.code)
    model = before.model or model_of(data)
    config = config_of(data)
    return Request(
        model=model,
        contents=[*with_files(contents_of(data), attached), *_asked_again(before)],
        config=config,
        structured=config.response_json_schema is not None or config.response_schema is not None,
        schema=config.response_json_schema,
    )


def model_of(data: Mapping[str, Any]) -> str:
    """Raises Permanent: `no_model`."""
    model = data.get("model")
    if not model:
        raise Permanent("no model: give `model`, or the daemon the setting default_model", code="no_model")
    return plain_model(str(model))


def config_of(data: Mapping[str, Any]) -> types.GenerateContentConfig:
    """The settings of the call; not to be changed, for calls with the same have the same one.

    Raises:
        Permanent: `bad_request`.
    """
    # As JSON, because only then are texts in fields of bytes read as base64.
    text = _json(_settings(data))
    return (_validated_config if len(text) <= _SMALL else _validated_config.__wrapped__)(text)


def _settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """`config` under the SDK's names, completed from the fields beside it."""
    settings = {setting_name(key): value for key, value in (data.get("config") or {}).items()}
    for field, setting in (("system", "system_instruction"), ("service_tier", "service_tier")):
        if data.get(field):
            settings[setting] = data[field]
    if data.get("schema") is not None:
        settings["response_json_schema"] = data["schema"]
        settings.setdefault("response_mime_type", "application/json")
    return settings


@cache
def _config_class() -> type[types.GenerateContentConfig]:
    """The SDK's own, but for how it answers `name in config`.

    The SDK asks that for each of its forty settings before it looks for an attribute of that name, and pydantic looks through all
    fields each time to find that it is not there: a quarter of a call's CPU. What is made when the SDK is imported can't be
    a class of this module's.
    """
    from google.genai import types

    class Config(types.GenerateContentConfig):
        def __contains__(self, _: object) -> bool:
            return False

    return Config


@lru_cache(maxsize=64)
def _validated_config(text: str) -> types.GenerateContentConfig:
    from google.genai import types
    from pydantic import ValidationError

    try:
        config = _config_class().model_validate_json(text)
    except ValidationError as error:
        raise _bad("config", error) from None
    config.automatic_function_calling = types.AutomaticFunctionCallingConfig(disable=True)
    config.automatic_continuation = False
    return config


def contents_of(data: Mapping[str, Any]) -> list[types.Content]:
    """The turns of the question.

    Raises:
        Permanent: `bad_request`.
    """
    from google.genai import types
    from pydantic import ValidationError

    given = data["contents"] if data.get("contents") is not None else data.get("prompt")
    if not given:
        raise Permanent("there is neither `prompt` nor `contents`", code="bad_request")
    contents = []
    for index, item in enumerate(given if isinstance(given, list) else [given]):
        if isinstance(item, str):
            contents.append(types.Content(role="user", parts=[types.Part(text=item)]))
            continue
        try:
            content = types.Content.model_validate_json(_json(item))
        except ValidationError as error:
            raise _bad(f"contents[{index}]", error) from None
        content.role = content.role or "user"
        contents.append(content)
    return contents


def with_files(contents: list[types.Content], attached: Sequence[types.Part]) -> list[types.Content]:
    """The files before the text of the last turn, as Gemini's guide has it."""
    if attached:
        contents[-1].parts = [*attached, *(contents[-1].parts or [])]
    return contents


def as_sent(contents: Sequence[types.Content]) -> Any:
    """The contents of a call for the SDK: to find out what a list is it tries all that it might be, 0.3 ms of CPU, a quarter of a
    call. One alone is handed over as one, which means the same."""
    return contents[0] if len(contents) == 1 else list(contents)


def _asked_again(before: Before) -> list[types.Content]:
    """What the model has answered, and why that won't do."""
    from google.genai import types

    if before.answer is None:
        return []
    return [
        types.Content(role="model", parts=[types.Part(text=before.answer or "(nothing)")]),
        types.Content(role="user", parts=[types.Part(text=before.question)]),
    ]


def _json(value: Any) -> str:
    def encode(item: Any) -> str:
        if isinstance(item, bytes):
            return base64.b64encode(item).decode("ascii")
        raise TypeError(f"{type(item).__name__} can't be sent to Gemini")

    return json.dumps(value, default=encode)


def _bad(where: str, error: Any) -> Permanent:
    """A sentence from pydantic's list, without the values: they may be large or private."""
    found = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False)[:5]:
        path = ".".join(str(part) for part in problem["loc"])
        found.append(f"{path}: {problem['msg']}" if path else str(problem["msg"]))
    return Permanent(f"`{where}` is not what Gemini takes: {'; '.join(found)}", code="bad_request")
