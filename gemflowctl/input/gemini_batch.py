"""Lines of Gemini's batch files, `{"key": …, "request": {…}}`, as tasks. Pure."""

from __future__ import annotations

from typing import Any, Final

#: Fields of a request, in both spellings that Google's tools write, and where they belong in the task's data.
_CONFIG_FIELDS: Final = {
    "safetySettings": "safety_settings",
    "tools": "tools",
    "toolConfig": "tool_config",
    "cachedContent": "cached_content",
    "labels": "labels",
}
_SNAKE_FIELDS: Final = {snake: snake for snake in _CONFIG_FIELDS.values()}


def is_line(value: dict[str, Any]) -> bool:
    """Whether it is such a line and not a task."""
    return "request" in value and "type" not in value and "task" not in value


def to_task(line: dict[str, Any]) -> dict[str, Any]:
    """The task: `key` becomes its id, the request the data of a `gemini` task.

    Raises:
        ValueError: what is wrong with it, as a sentence.
    """
    unknown = sorted(set(line) - {"key", "request", "metadata"})
    if unknown:
        raise ValueError(f"`{unknown[0]}` is not a field of a Gemini batch line")
    request = line["request"]
    if not isinstance(request, dict):
        raise ValueError("`request` must be a map")  # noqa: TRY004
    if "contents" not in request:
        raise ValueError("`request.contents` is missing")
    data: dict[str, Any] = {}
    config: dict[str, Any] = {}
    for field, value in request.items():
        match field:
            case "contents":
                data["contents"] = value
            case "model":
                data["model"] = value
            case "systemInstruction" | "system_instruction":
                data["system"] = _system(value)
            case "generationConfig" | "generation_config" | "config":
                if not isinstance(value, dict):
                    raise ValueError(f"`request.{field}` must be a map")  # noqa: TRY004
                config.update(value)
            case _:
                name = _CONFIG_FIELDS.get(field) or _SNAKE_FIELDS.get(field)
                if name is None:
                    raise ValueError(f"`request.{field}` is not known")
                config[name] = value
    if config:
        data["config"] = config
    task: dict[str, Any] = {"type": "gemini", "data": data}
    if line.get("key") is not None:
        task["id"] = line["key"]
    if line.get("metadata") is not None:
        task["metadata"] = line["metadata"]
    return task


def _system(value: Any) -> str:
    """The text of a system instruction: a string, or a content with text parts."""
    if isinstance(value, str):
        return value
    parts = value.get("parts") if isinstance(value, dict) else value
    if isinstance(parts, dict):
        parts = [parts]
    if isinstance(parts, list):
        texts = [part if isinstance(part, str) else part.get("text") for part in parts if isinstance(part, str | dict)]
        if len(texts) == len(parts) and all(isinstance(text, str) for text in texts):
            return "\n".join(str(text) for text in texts)
    raise ValueError("`request.systemInstruction` must be text")
