"""What a name in `tools` stands for: the function that the model is told of, and the task that carries a call out.

read_file, write_file, …    a tool of the task type `tool`, in the flow's workspace
memory.get, memory.set@NAMESPACE, …   the shared memory: the flow's own namespace, or the one that is named
mcp:SERVER/TOOL, mcp:SERVER/*   a tool of an MCP server, or all of them
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gemflowd.handlers.errors import Permanent
from gemflowd.handlers.mcp import sessions
from gemflowd.handlers.mcp.settings import server
from gemflowd.handlers.memory.handler import OPERATIONS
from gemflowd.handlers.tool.schema import TOOLS
from gemflowd.model.tools import MCP

#: Characters of a function's name, as Gemini takes it.
_MOST_NAME: Final = 64
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_]")
_TEXT: Final = {"type": "string"}
#: What a model is told of each tool; arguments that are not for it are left out.
_ABOUT: Final[dict[str, str]] = {
    "read_file": "Read a file of the workspace. Paths are relative to it.",
    "write_file": "Write a file of the workspace, replacing what it held.",
    "append_file": "Append to a file of the workspace.",
    "list_files": "List files of the workspace, of one directory or, with `recursive`, of all below it.",
    "search_files": "Find the lines of the workspace's files that contain `query`, or match it as a regular expression.",
    "fetch_url": "Fetch a page or file by its URL.",
    "shell": "Run a line of shell in the workspace.",
    "memory.get": "Read a value of the shared memory by its key.",
    "memory.set": "Store a value in the shared memory under a key.",
    "memory.delete": "Remove a key from the shared memory.",
    "memory.list": "List the keys of the shared memory that begin with `prefix`.",
}
_NOT_FOR_MODELS: Final = frozenset({"if_version", "headers", "env", "any_status", "timeout"})


@dataclass(frozen=True, slots=True)
class Function:
    """Attributes:
    name: by which the model calls it.
    tool: the name in `tools`.
    schema: JSON Schema of its arguments.
    task: from arguments to the type and data of the task of one call.
    """

    name: str
    tool: str
    description: str
    schema: dict[str, Any]
    task: Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]

    def unknown(self, arguments: Mapping[str, Any]) -> str | None:
        """The first argument that was not offered. Of our own tools only: a server looks at its own."""
        if self.tool.startswith(MCP):
            return None
        return next((name for name in arguments if name not in self.schema["properties"]), None)

    @property
    def declaration(self) -> dict[str, Any]:
        """In Gemini's own form."""
        return {"name": self.name, "description": self.description, "parameters_json_schema": self.schema}


async def functions(
    names: Sequence[str], settings: Mapping[str, Any], workspace: str | None = None
) -> dict[str, Function]:
    """The functions that some names of `tools` stand for, by their own names.

    Args:
        workspace: in which they work; None: the flow's own.

    Raises:
        Permanent: `unknown_tool`: an MCP server has no such tool; `unknown_server`.
        Transient: `mcp_unreachable`.
    """
    found: dict[str, Function] = {}
    for name in names:
        for function in await _of(name, settings, workspace):
            if found.setdefault(function.name, function).tool != function.tool:
                message = f"{function.tool} and {found[function.name].tool} would be one function to the model"
                raise Permanent(message, code="bad_request")
    return found


async def _of(name: str, settings: Mapping[str, Any], workspace: str | None) -> list[Function]:
    if name.startswith(MCP):
        return await _of_server(name, settings)
    what, _, namespace = name.partition("@")
    if what.startswith("memory."):
        op = what.removeprefix("memory.")
        where = {"namespace": namespace} if namespace else {}
        about = f"{_ABOUT[what]}{f' Namespace: {namespace}.' if namespace else ''}"

        def remember(arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
            return "memory", {**arguments, **where, "op": op}

        return [Function(_function_name(name), name, about, _schema(*OPERATIONS[op]), remember)]
    if name not in TOOLS:
        raise Permanent(f"there is no tool {name!r}", code="unknown_tool")

    def use(arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "tool", {**arguments, **({"workspace": workspace} if workspace else {}), "tool": name}

    return [Function(name, name, _ABOUT[name], _schema(*TOOLS[name]), use)]


async def _of_server(name: str, settings: Mapping[str, Any]) -> list[Function]:
    there, _, wanted = name.removeprefix(MCP).partition("/")
    offered = await sessions.tools(server(settings, there))
    if wanted != "*" and wanted not in offered:
        known = ", ".join(sorted(offered)[:50]) or "none"
        raise Permanent(f"the MCP server {there} has no tool {wanted!r}; it has: {known}", code="unknown_tool")
    return [_mcp(there, tool) for tool in (offered.values() if wanted == "*" else [offered[wanted]])]


def _mcp(there: str, tool: sessions.Tool) -> Function:
    def ask(arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "mcp", {"server": there, "tool": tool.name, "arguments": arguments}

    schema = tool.schema or {"type": "object", "properties": {}}
    return Function(_function_name(f"{there}__{tool.name}"), f"{MCP}{there}/{tool.name}", tool.description, schema, ask)


def _function_name(name: str) -> str:
    made = _NO_NAME.sub("_", name)[:_MOST_NAME]
    return made if made[0].isalpha() or made[0] == "_" else f"_{made}"[:_MOST_NAME]


def _schema(required: list[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a model may say; what may be anything is a text."""
    offered = {name: rule or _TEXT for name, rule in arguments.items() if name not in _NOT_FOR_MODELS}
    return {"type": "object", "properties": offered, "required": required}
