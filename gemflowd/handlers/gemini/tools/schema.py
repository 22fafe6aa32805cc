"""JSON Schema of the data of `gemini.tools`: that of `gemini` without files, with the tools and what they may cost."""

from __future__ import annotations

from typing import Any, Final

from gemflowd.handlers.gemini.schema import SCHEMA as QUESTION
from gemflowd.model.tools import MOST

MAX_HOPS: Final = 10
_SECONDS: Final = {"type": "number", "minimum": 0}
#: What the tasks of the conversation are submitted with.
HOP: Final = {
    "type": "object",
    "properties": {
        "priority": {"type": "integer", "minimum": -32768, "maximum": 32767},
        "queue": {"type": "string"},
        "timeout": _SECONDS,
        "retries": {"type": "integer", "minimum": 0, "maximum": 1000},
        "retry_on": {"type": "object"},
        "backoff": _SECONDS,
    },
    "additionalProperties": False,
}
SCHEMA: Final[dict[str, Any]] = {
    **QUESTION,
    "properties": {
        **{name: rule for name, rule in QUESTION["properties"].items() if name != "files"},
        "tools": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST, "uniqueItems": True},
        "max_hops": {"type": "integer", "minimum": 1, "maximum": 40},
        "hop": HOP,
    },
    "required": ["tools"],
}
