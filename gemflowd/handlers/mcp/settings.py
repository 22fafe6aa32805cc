"""What the settings say of an MCP server, as the worker uses it. `config.mcp` has checked it; secrets' files are read here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gemflowd.handlers.errors import Permanent

#: Values that are too short to be secrets, and would mangle every sentence they are taken out of.
_SHORT: Final = 6
_HIDDEN: Final = "[…]"


@dataclass(frozen=True, slots=True)
class Server:
    """One server.

    Attributes:
        command: program and arguments, of a server that speaks over its standard input and output.
        url: of one that speaks HTTP.
        timeout: seconds for it to start and answer.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    env_file: str | None = None
    headers_file: str | None = None
    timeout: float = 30.0

    def environment(self) -> dict[str, str]:
        """Raises Permanent: `bad_server`: the file of variables can't be read."""
        return {**self.env, **(_pairs(self.env_file, "=") if self.env_file else {})}

    def headers(self) -> dict[str, str]:
        """Raises Permanent: `bad_server`: the file of headers can't be read."""
        return _pairs(self.headers_file, ":") if self.headers_file else {}

    def scrub(self) -> Callable[[str], str]:
        """Takes what may be a secret out of a sentence."""
        secrets = {*self.env.values(), *self.command[1:]}
        if self.url is not None:
            where = urlsplit(self.url)
            secrets.update((where.query, where.username or "", where.password or ""))
        for read in (self.environment, self.headers):
            try:
                secrets.update(read().values())
            except Permanent:
                continue
        secrets.update(part for secret in list(secrets) for part in secret.split())  # "Bearer TOKEN" is two words
        words = sorted((word for word in secrets if len(word) >= _SHORT), key=len, reverse=True)

        def scrubbed(text: str) -> str:
            for word in words:
                text = text.replace(word, _HIDDEN)
            return text

        return scrubbed


def servers(settings: Mapping[str, Any]) -> dict[str, Server]:
    """Those of the settings, by name."""
    found: Mapping[str, Any] = (settings.get("mcp") or {}).get("servers") or {}
    return {name: Server(name, **{**said, "command": tuple(said.get("command", ()))}) for name, said in found.items()}


def server(settings: Mapping[str, Any], name: str) -> Server:
    """Raises Permanent: `unknown_server`."""
    known = servers(settings)
    if name not in known:
        there = ", ".join(sorted(known)) or "none"
        raise Permanent(f"the settings have no MCP server {name!r}; there are: {there}", code="unknown_server")
    return known[name]


def _pairs(path: str, separator: str) -> dict[str, str]:
    """`NAME=value` or `Name: value`, one a line; empty lines and those with # in front are left out."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"the file {path} of an MCP server can't be read: {error}", code="bad_server") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separated, value = line.partition(separator)
        if not separated or not name.strip():
            raise Permanent(f"line {number} of {path} has no name and value with {separator!r}", code="bad_server")
        found[name.strip()] = value.strip()
    return found
