"""What the settings say of an MCP server, as the worker uses it. `config.mcp` has checked it; secrets' files are read here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from gemflowd.handlers.errors import Permanent

#: Values that are too short to be secrets, and would mangle every sentence they are taken out of.
_SHORT: Final = 6
#: Characters from which on a part of a URL's path looks like a secret of its own.
_LONG: Final = 16
#: What stands in front of the secret in a header, and is none.
_SCHEMES: Final = frozenset({"Bearer", "Digest"})
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
        """Takes what stands in the settings of it, and what may be a secret, out of a sentence about what went wrong."""
        said = {*self._secrets(), *self.env.values(), *self.command}
        if self.url is not None:
            where = urlsplit(self.url)
            paths = {where.path, unquote(where.path)}
            said.update((self.url, where.netloc, *paths))
            said.update(part for path in paths for part in path.split("/") if len(part) >= _LONG)
        return _scrubber(said)

    def scrub_answer(self) -> Callable[[str], str]:
        """Takes secrets out of what it answers. What else stands in the settings of it, such as the folder that it serves, may well be
        what it was asked for."""
        return _scrubber(self._secrets())

    def _secrets(self) -> set[str]:
        """What the files for secrets have, and the credentials in the URL."""
        found: set[str] = set()
        if self.url is not None:
            where = urlsplit(self.url)
            found.update((where.query, where.username or "", where.password or ""))
            found.update(value for _, value in parse_qsl(where.query))
        for path, separator in ((self.env_file, "="), (self.headers_file, ":")):
            try:
                found.update(_pairs(path, separator).values() if path else ())
            except Permanent:
                continue
        return found


def _scrubber(secrets: Iterable[str]) -> Callable[[str], str]:
    parts = {part for secret in secrets for part in (secret, *secret.split())}  # "Bearer TOKEN" is two words
    words = sorted((it for it in parts if len(it) >= _SHORT and it not in _SCHEMES), key=len, reverse=True)

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
