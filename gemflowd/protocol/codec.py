"""Frames: one MessagePack map each, within limits of size and depth. Used by the daemon and by the clients.

Does not cover what is inside a body (`protocol.messages`, the daemon's only).
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgpack

from gemflowd.model.errors import Invalid
from gemflowd.protocol.versions import PROTOCOL_VERSION

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
#: MessagePack's C extension nests up to 511 levels when packing; jsonschema-rs stops at 255. We stay well below both.
MAX_DEPTH: Final = 64
_MAX_INT: Final = 2**63 - 1
_MIN_INT: Final = -(2**63)


def pack(value: object) -> bytes:
    return msgpack.packb(value)  # type: ignore[no-any-return]


def unpack(data: bytes | memoryview) -> Any:
    """Decode our own data (from the store or a worker), which needs no checks."""
    return msgpack.unpackb(data, strict_map_key=False)


def decode(frame: bytes | memoryview) -> dict[str, Any]:
    """Decode a frame from outside.

    Raises:
        Invalid: `frame_too_large` or `bad_frame`. Depth and numbers are checked by `check_value` where values are free.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise Invalid("frame_too_large", f"the frame has {len(frame)} bytes; at most {MAX_FRAME_BYTES} are accepted")
    try:
        value = msgpack.unpackb(frame, strict_map_key=True, raw=False)
    except msgpack.exceptions.StackError:
        raise Invalid("too_deep", f"values may be nested at most {MAX_DEPTH} deep") from None
    except (ValueError, msgpack.exceptions.UnpackException, TypeError, RecursionError) as error:
        raise Invalid("bad_frame", f"the frame is not one MessagePack map with string keys: {error}") from None
    if not isinstance(value, dict):
        raise Invalid("bad_frame", "the frame holds something else than a map")
    return value


def check_value(value: object, path: str, depth: int = MAX_DEPTH) -> None:
    """Refuse what a free value (data, metadata, a result) must not hold, with the path of the offender.

    Raises:
        Invalid: `too_deep`, `wrong_type` (a key that is no string, a timestamp or an extension type) or `invalid_value` (NaN,
            infinity, an integer of more than 64 bits).
    """
    kind = type(value)
    if kind is str or kind is bool or value is None or kind is bytes:
        return
    if kind is int:
        if not _MIN_INT <= value <= _MAX_INT:  # type: ignore[operator]
            raise Invalid("invalid_value", "integers must fit in 64 bits, signed", path)
    elif kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise Invalid("invalid_value", "NaN and infinities are refused", path)
    elif kind is dict:
        if depth <= 0:
            raise Invalid("too_deep", f"values may be nested at most {MAX_DEPTH} deep", path)
        for key, item in value.items():  # type: ignore[attr-defined]
            if type(key) is not str:
                raise Invalid("wrong_type", f"map keys must be strings, not {type(key).__name__}", path)
            if type(item) is not str:
                check_value(item, f"{path}.{key}", depth - 1)
    elif kind is list or kind is tuple:
        if depth <= 0:
            raise Invalid("too_deep", f"values may be nested at most {MAX_DEPTH} deep", path)
        for index, item in enumerate(value):  # type: ignore[arg-type]
            if type(item) is not str:
                check_value(item, f"{path}[{index}]", depth - 1)
    else:
        raise Invalid("wrong_type", f"a value of type {kind.__name__} can't be sent", path)


def request(request_id: int | str, op: str, body: dict[str, Any] | None = None) -> bytes:
    return pack({"v": PROTOCOL_VERSION, "id": request_id, "op": op, "body": body or {}})


def reply(request_id: object, body: dict[str, Any]) -> bytes:
    return pack({"v": PROTOCOL_VERSION, "id": request_id, "ok": True, "body": body})


def refusal(request_id: object, error: dict[str, str]) -> bytes:
    return pack({"v": PROTOCOL_VERSION, "id": request_id, "ok": False, "error": error})
