"""What may be said to each tool, as JSON Schema: one `then` a tool, so that a mistake is told with the path of its field."""

from __future__ import annotations

from typing import Any, Final

from gemflowd.handlers.outcomes import FIELD
from gemflowd.handlers.workspace import NAME_SCHEMA

_PATH: Final = {"type": "string", "minLength": 1, "maxLength": 4096}
_GLOB: Final = {"type": "string", "minLength": 1, "maxLength": 1024}
_COUNT: Final = {"type": "integer", "minimum": 1, "maximum": 10_000}

#: tool -> its arguments, those that it needs first.
TOOLS: Final[dict[str, tuple[list[str], dict[str, Any]]]] = {
    "read_file": (
        ["path"],
        {
            "path": _PATH,
            "offset": {"type": "integer", "minimum": 0},
            "max_bytes": {"type": "integer", "minimum": 1},
        },
    ),
    "write_file": (
        ["path", "content"],
        {"path": _PATH, "content": {}, "if_version": {"type": ["string", "null"], "maxLength": 64}},
    ),
    "append_file": (["path", "content"], {"path": _PATH, "content": {}}),
    "list_files": (
        [],
        {"path": _PATH, "pattern": _GLOB, "recursive": {"type": "boolean"}, "limit": _COUNT},
    ),
    "search_files": (
        ["query"],
        {
            "query": {"type": "string", "minLength": 1, "maxLength": 1000},
            "regex": {"type": "boolean"},
            "ignore_case": {"type": "boolean"},
            "path": _PATH,
            "pattern": _GLOB,
            "limit": _COUNT,
        },
    ),
    "fetch_url": (
        ["url"],
        {
            "url": {"type": "string", "minLength": 1, "maxLength": 8192},
            "method": {"enum": ["GET", "HEAD", "POST"]},
            "headers": {"type": "object", "additionalProperties": {"type": "string"}},
            "body": {},
            "max_bytes": {"type": "integer", "minimum": 1},
            "timeout": {"type": "number", "exclusiveMinimum": 0, "maximum": 3600},
            "any_status": {"type": "boolean"},
        },
    ),
    "shell": (
        ["command"],
        {
            "command": {"type": "string", "minLength": 1},
            "stdin": {},
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    ),
}


def _then(name: str) -> dict[str, Any]:
    required, arguments = TOOLS[name]
    return {
        "required": required,
        "properties": {"tool": {}, **FIELD, **({} if name == "fetch_url" else {"workspace": NAME_SCHEMA}), **arguments},
        "additionalProperties": False,
    }


SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["tool"],
    "properties": {"tool": {"enum": list(TOOLS)}},
    "allOf": [
        {"if": {"required": ["tool"], "properties": {"tool": {"const": name}}}, "then": _then(name)} for name in TOOLS
    ],
}
