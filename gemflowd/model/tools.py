"""The names of tools that a model may be given, as far as they are known without asking anybody."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

#: The one that runs programs: it is given to nobody who was not named it.
SHELL: Final = "shell"
#: Those of the task type `tool`.
FILES_AND_PAGES: Final = (
    "read_file", "write_file", "append_file", "list_files", "search_files", "fetch_url", SHELL,
)  # fmt: skip
#: Those of the task type `memory`.
MEMORY: Final = ("memory.get", "memory.set", "memory.delete", "memory.list")
#: Before the name of a server and of its tool.
MCP: Final = "mcp:"
#: Tools that one task may name.
MOST: Final = 100
_SERVER: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
_MEMORY: Final = re.compile(rf"(?:{'|'.join(map(re.escape, MEMORY))})(?:@[A-Za-z0-9][A-Za-z0-9_.-]{{0,127}})?")
_OF_SERVER: Final = re.compile(rf"mcp:({_SERVER})/(\*|[^\s*/][^\s*]{{0,255}})")
SERVER_NAME: Final = re.compile(_SERVER)


def problem(name: str, servers: Collection[str]) -> str | None:
    """Why a name is none of a tool, as a sentence; None: it is one, as far as can be said here.

    Args:
        servers: names of the MCP servers of the settings. What tools they have, only they know.
    """
    if name in FILES_AND_PAGES or _MEMORY.fullmatch(name):
        return None
    found = _OF_SERVER.fullmatch(name)
    if found is None:
        known = ", ".join((*FILES_AND_PAGES, *MEMORY))
        return f"there is no tool {name[:200]!r}; there are: {known}, and mcp:SERVER/TOOL"
    if found[1] not in servers:
        known = ", ".join(sorted(servers)) or "none"
        return f"the settings have no MCP server {found[1]!r}; there are: {known}"
    return None


def permitted(wanted: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """Those of `wanted` that a list permits. `mcp:SERVER/*` in the list stands for every tool of the server."""
    there = set(allowed)
    found = []
    for name in wanted:
        every = _every(name)
        if name in there or every in there:
            found.append(name)
        elif name == every:  # all of them, of which the list permits some
            found += [one for one in allowed if _every(one) == every and one not in found]
    return list(dict.fromkeys(found))


def _every(name: str) -> str | None:
    found = _OF_SERVER.fullmatch(name)
    return None if found is None else f"{MCP}{found[1]}/*"
