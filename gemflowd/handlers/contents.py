"""Values as bytes and bytes as values: what goes into programs and files, and what comes out of them."""

from __future__ import annotations

import base64
import json
import math
from typing import Any


def as_bytes(value: Any) -> bytes:
    """A string as it is, bytes as they are, anything else as JSON."""
    if isinstance(value, bytes):
        return value
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else as_json(value)


def as_json(value: Any) -> bytes:
    """A value as JSON; bytes in it as `{"$bytes": base64}`."""
    return json.dumps(value, ensure_ascii=False, default=_bytes_as_json).encode("utf-8", "surrogatepass")


def _bytes_as_json(value: Any) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


def as_text_or_bytes(data: bytes) -> dict[str, Any]:
    """`{text}` where it is UTF-8, else `{bytes}`."""
    try:
        return {"text": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"bytes": data}


def parsed(output: bytes) -> Any:
    """A program's output as a value: parsed JSON, else text, else (not UTF-8) bytes."""
    try:
        text = output.decode("utf-8")
    except UnicodeDecodeError:
        return output
    try:
        value = json.loads(text, parse_float=_float, parse_int=_integer, parse_constant=_refuse_constant)
        if "\\u" in text:  # an escaped lone surrogate is legal JSON, but no text that could be stored
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return text
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _integer(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:  # MessagePack has no larger ones; as text no digit is lost
        raise ValueError(text)
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(text)  # NaN and the infinities are not JSON
