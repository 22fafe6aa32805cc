"""JSON Schemas: of the data of `agent` and `agent.plan`, and of the plan that a model is asked for."""

from __future__ import annotations

from typing import Any, Final

from gemflowd.handlers.workspace import NAME_SCHEMA
from gemflowd.model.tools import FILES_AND_PAGES, SHELL

#: Task types that a plan may use where the task does not say: what runs programs has to be named.
DEFAULT_TYPES: Final = ("gemini", "tool", "analysis", "memory", "agent")
#: Types that are parts of others, which see to what they may do.
NOT_PLANNED: Final = frozenset({"gemini.tools", "gemini.batch", "agent.plan"})
#: Tools that a plan may use where the task does not say.
DEFAULT_TOOLS: Final = tuple(name for name in FILES_AND_PAGES if name != SHELL)
DEFAULT_TASKS: Final = 20
DEFAULT_DEPTH: Final = 10
DEFAULT_NESTING: Final = 1
DEFAULT_REASKS: Final = 2
#: Words for priorities, most urgent first, and what they are.
PRIORITIES: Final = {"critical": 10, "high": 8, "medium": 5, "low": 2}

_NAMES: Final = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 100}
_NAMESPACE: Final = {"type": "string", "minLength": 1, "maxLength": 64}
_BOUNDS: Final[dict[str, Any]] = {
    "goal": {"type": "string", "minLength": 1, "maxLength": 50_000},
    "model": {"type": "string", "minLength": 1},
    "fallback": {"type": "array", "items": {"type": "string"}, "maxItems": 10},
    "max_tasks": {"type": "integer", "minimum": 1, "maximum": 200},
    "max_depth": {"type": "integer", "minimum": 1, "maximum": 100},
    "nesting": {"type": "integer", "minimum": 0, "maximum": 5},
    "max_reasks": {"type": "integer", "minimum": 0, "maximum": 10},
    "agents": _NAMES,
    "types": _NAMES,
    "tools": _NAMES,
    "max_hops": {"type": "integer", "minimum": 1, "maximum": 40},
    "memory": _NAMESPACE,
    "workspace": NAME_SCHEMA,
    "template": {"type": "boolean"},
}
#: Of `agent.plan`.
PLAN_DATA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": _BOUNDS,
    "required": ["goal"],
    "additionalProperties": False,
}
#: Of `agent`.
AGENT_DATA: Final[dict[str, Any]] = {**PLAN_DATA, "properties": {**_BOUNDS, "approve": {"type": "boolean"}}}
_TEXT: Final = {"type": "string"}
#: What the planner answers. Names are not listed in it: which are wrong is told with the rest, all at once.
PLAN: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "tasks": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string", "description": "a short name, letters, digits, _ and -"},
                    "description": {"type": "string", "description": "what is to be done, complete in itself"},
                    "type": _TEXT,
                    "agent": {"type": "string", "description": "of a gemini task: the persona; else empty"},
                    "tools": {
                        "type": "array",
                        "items": _TEXT,
                        "description": "of a gemini task: tools that its model may use",
                    },
                    "dependencies": {"type": "array", "items": _TEXT, "description": "ids whose results it needs"},
                    "priority": {"type": "string", "enum": list(PRIORITIES)},
                    "data": {
                        "type": "string",
                        "description": "of a task that is neither gemini nor agent: its input, a JSON object as text",
                    },
                },
                "required": ["id", "description", "type", "dependencies", "priority"],
            },
        }
    },
    "required": ["tasks"],
}
