"""MCP servers in the settings: the table `[mcp.servers.NAME]` of gemflowd.toml, and what is wrong with one.

What a table may hold is a secret (a variable, an argument), so none of it is ever repeated. Does not cover whether a server answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gemflowd.model.tools import SERVER_NAME

_KEYS: Final = frozenset({"command", "url", "env", "env_file", "headers_file", "timeout"})
_MOST_SECONDS: Final = 3600.0


def problem(value: Mapping[str, Any]) -> str | None:
    """What is wrong, as the end of a sentence that begins with the key; None: nothing."""
    servers = value.get("servers", {})
    if value.keys() - {"servers"} or not isinstance(servers, dict):
        return "must be a table [mcp.servers.NAME] for each server and nothing else"
    for name, said in servers.items():
        if SERVER_NAME.fullmatch(name) is None:
            return "has a server whose name is not 1 to 64 letters, digits, '_', '.' or '-'"
        if (wrong := _of_server(said)) is not None:
            return f"has the server {name!r}, {wrong}"
    return None


def _of_server(said: object) -> str | None:
    if not isinstance(said, dict):
        return "which is no table"
    if unknown := sorted(said.keys() - _KEYS):
        return f"with a key that there is not: {unknown[0][:50]!r}"
    command, url = said.get("command"), said.get("url")
    if (command is None) == (url is None):
        return "which needs `command` or `url`, one of them"
    if command is not None and not (command and _texts(command)):
        return "whose `command` must be a list of texts: the program and its arguments"
    if url is not None and not (isinstance(url, str) and url.startswith(("https://", "http://"))):
        return "whose `url` must begin with https:// or http://"
    env = said.get("env", {})
    if not (isinstance(env, dict) and _texts(list(env.values()))):
        return "whose `env` must be a table of texts"
    for key, goes_with in (("env", "command"), ("env_file", "command"), ("headers_file", "url")):
        if key in said and goes_with not in said:
            return f"where `{key}` goes with `{goes_with}` alone"
    for key in ("env_file", "headers_file"):
        if key in said and not (isinstance(said[key], str) and Path(said[key]).is_file()):
            return f"whose `{key}` must be a file that exists"
    timeout = said.get("timeout", 1)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= _MOST_SECONDS:
        return f"whose `timeout` must be a number of seconds up to {_MOST_SECONDS:g}"
    return None


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and "\0" not in item for item in value)


def server_names(value: Mapping[str, Any]) -> list[str]:
    """Those of a setting that was checked."""
    return sorted(value.get("servers", {}))


def shown(value: Mapping[str, Any]) -> dict[str, str]:
    """Each server's name with how it is spoken to: all that may be shown."""
    return {name: "stdio" if "command" in said else "http" for name, said in sorted(value.get("servers", {}).items())}
