"""JSON as every command writes it: one object a line, UTF-8, bytes as `{"$bytes": base64}`. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Final

#: Characters that may not reach a terminal as they are; JSON has an escape for each.
_HARMFUL: Final = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def dumps(value: Any, indent: int | None = None) -> str:
    """The JSON text of a value from the wire."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_other, indent=indent)
    return _HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _other(value: object) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        from base64 import b64encode

        return {"$bytes": b64encode(value).decode("ascii")}
    raise TypeError(f"a {type(value).__name__} has no JSON form")
