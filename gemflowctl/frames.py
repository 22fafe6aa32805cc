"""`DEBUG=parallel:client` (or `parallel:*`): every frame as a line on standard error, with sizes and times.

What people put into tasks, values and messages is never among it: of a body only numbers are shown, and the few strings that the
protocol itself makes. Does not cover the daemon's side, which has a log.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from gemflowd.model.debugging import rooms_of

#: Strings under these names are the protocol's, and no secret.
_SHOWN: Final = frozenset(
    {
        "code",
        "epoch",
        "kind",
        "op",
        "outcome",
        "path",
        "profile",
        "queue",
        "ref",
        "refs",
        "state",
        "submission",
        "topics",
    }
    | {"type", "version"}
)
#: What is under these is somebody's own, numbers and names of fields too.
_OPAQUE: Final = frozenset({"data", "env", "metadata", "result", "results", "token", "value", "values"})
_MOST_ITEMS: Final = 6
_MOST_CHARACTERS: Final = 40
_MOST_FIELDS: Final = 12


def trace(environ: Mapping[str, str] = os.environ) -> Trace | None:
    """Where to report the frames of one connection to; None where nobody wants to see them."""
    debug = environ.get("DEBUG", "")
    return Trace() if ("*" in debug or "parallel:" in debug) and "client" in rooms_of(debug) else None


class Trace:
    """The frames of one connection."""

    def __init__(self) -> None:
        self._sent: dict[int, tuple[str, float]] = {}

    def sent(self, number: int, op: str, body: Any, size: int, *, again: bool = False) -> None:
        self._sent[number] = (op, time.monotonic())
        _write(f"→ {op} #{number}{' again' if again else ''}, {size} bytes {shape(body)}")

    def received(self, reply: Mapping[str, Any], size: int) -> None:
        number = reply.get("id")
        op, began = self._sent.pop(number, ("?", None)) if isinstance(number, int) else ("?", None)
        took = f", {(time.monotonic() - began) * 1e3:.1f} ms" if began is not None else ""
        ok = reply.get("ok") is True
        _write(
            f"← {op} #{shape(number)} {'ok' if ok else 'refused'}, {size} bytes{took} {shape(reply.get('body' if ok else 'error'))}"
        )


def event(topic: str, message: Mapping[str, Any], size: int) -> None:
    """A message of the events socket."""
    events = message.get("events")
    count = len(events) if isinstance(events, list) else 0
    _write(
        f"← {ascii(topic)[1:-1]}, {size} bytes, {count} events, {shape(message.get('first'))} to {shape(message.get('last'))}"
    )


def shape(value: Any, name: str = "") -> str:
    """A value in a few words: numbers as they are, of strings their length unless `name` is one that the protocol makes."""
    if value is None or isinstance(value, bool | int | float):
        return "-" if value is None else str(value).lower()
    if isinstance(value, str):
        short = ascii(value)[1:-1]
        return short[:_MOST_CHARACTERS] if name in _SHOWN else f"<{len(value)} chars>"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, list):
        if name in _SHOWN and len(value) <= _MOST_ITEMS:
            return f"[{', '.join(shape(item, name) for item in value)}]"
        return f"[{len(value)} items]"
    if not isinstance(value, dict):
        return "?"
    if len(value) > _MOST_FIELDS:
        return f"{{{len(value)} fields}}"
    fields = ", ".join(f"{ascii(key)[1:-1]}: {_field(key, inner)}" for key, inner in value.items())
    return f"{{{fields}}}"


def _field(key: Any, value: Any) -> str:
    if key in _OPAQUE and isinstance(value, dict):
        return f"{{{len(value)} fields}}"
    if key in _OPAQUE and not isinstance(value, list | None):
        return "…"
    return shape(value, key)


def _write(text: str) -> None:
    sys.stderr.write(f"parallel:client {text}\n")
    sys.stderr.flush()
