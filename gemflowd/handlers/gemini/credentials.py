"""Where the key comes from, and how it is kept out of everything that is written down.

Covers: the order of places, Vertex AI's own credentials by environment, and scrubbing. The key is read for each call
(a few microseconds), so that a rotated key file needs no restart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gemflowd.handlers.errors import Permanent
from gemflowd.model.calls import uses_vertex

#: The name of the credential in a unit's `LoadCredential=`.
SYSTEMD_CREDENTIAL: Final = "gemini-api-key"
_VARIABLES: Final = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
#: What the offline stand-in gets: the real key must not go anywhere but to Google.
_STAND_IN_KEY: Final = "stand-in"
_LOOKS_LIKE_KEY: Final = re.compile(r"\bAIza[0-9A-Za-z_-]{20,}|\bya29\.[0-9A-Za-z_.-]{10,}|(?<=[?&]key=)[^&\s\"']+")
_REMOVED: Final = "[key removed]"


@dataclass(frozen=True, slots=True)
class Connection:
    """How Gemini is reached. Two equal ones may share a client."""

    key: str | None = field(repr=False)  # None: Vertex AI with credentials of its own
    endpoint: str | None  # None: Google's, or GOOGLE_GEMINI_BASE_URL
    api_version: str | None  # None: the SDK's
    offline: bool = False  # the endpoint is the stand-in on this machine

    def scrub(self, text: str) -> str:
        """`text` without the key, or anything that looks like one."""
        if self.key and not self.offline:
            text = text.replace(self.key, _REMOVED)
        return _LOOKS_LIKE_KEY.sub(_REMOVED, text)


def connection(settings: Mapping[str, Any], environment: Mapping[str, str]) -> Connection:
    """The connection that the settings and the environment ask for.

    Raises:
        Permanent: `no_api_key` when there is none, `bad_api_key` when it can't be one.
    """
    endpoint = settings.get("gemini_endpoint") or None
    version = settings.get("gemini_api_version") or None
    if settings.get("gemini_offline"):
        return Connection(_STAND_IN_KEY, endpoint, version, offline=True)
    if uses_vertex(environment):
        return Connection(None, endpoint, version)
    return Connection(_find_key(settings, environment), endpoint, version)


def scrubbing(settings: Mapping[str, Any], environment: Mapping[str, str]) -> Callable[[str], str]:
    """Takes the key out of a text, as `Connection.scrub`; where there is none, what looks like one."""
    try:
        return connection(settings, environment).scrub
    except Permanent:
        return Connection(None, None, None).scrub


def _find_key(settings: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    for name in _VARIABLES:
        if value := environment.get(name, "").strip():
            return _checked(value, name)
    if path := settings.get("gemini_api_key_file"):
        return _read(Path(path), "the setting gemini_api_key_file")
    if directory := environment.get("CREDENTIALS_DIRECTORY"):
        credential = Path(directory, SYSTEMD_CREDENTIAL)
        if credential.exists():
            return _read(credential, f"the systemd credential {SYSTEMD_CREDENTIAL}")
    raise Permanent(
        "there is no Gemini API key: set GEMINI_API_KEY or GOOGLE_API_KEY in the daemon's environment, name a file in "
        f"the setting gemini_api_key_file, or load the systemd credential {SYSTEMD_CREDENTIAL}; to try things without "
        "a key start the daemon with --offline",
        code="no_api_key",
    )


def _read(path: Path, origin: str) -> str:
    try:
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Permanent(
            f"the Gemini API key can't be read from {path} ({origin}): {reason}", code="no_api_key"
        ) from None  # a decoding error holds what it was reading
    if not value:
        raise Permanent(f"the file {path} ({origin}) has no Gemini API key in it", code="no_api_key")
    return _checked(value, origin)


def _checked(value: str, origin: str) -> str:
    """Refuse what can't stand in a header, before some other error message quotes it."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise Permanent(
            f"the Gemini API key from {origin} has characters that no key has: is there more than one line?",
            code="bad_api_key",
        )
    return value
