"""Frames: one MessagePack map each, within limits of size and depth. Used by the daemon and by the clients.

Does not cover what is inside a body (`protocol.messages`, the daemon's only).
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from gemflowd.model.errors import Invalid
from gemflowd.model.values import MAX_DEPTH, check_value
from gemflowd.protocol.versions import PROTOCOL_VERSION

__all__ = [
    "MAX_DEPTH",
    "MAX_FRAME_BYTES",
    "check_fields",
    "check_value",
    "decode",
    "pack",
    "refusal",
    "reply",
    "request",
    "unpack",
]

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024


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


def check_fields(body: dict[str, Any]) -> None:
    """Numbers in a body's own fields; other values are looked at where it is known what they may hold.

    Raises:
        Invalid: see `check_value`.
    """
    for name, value in body.items():
        if type(value) in (int, float):
            check_value(value, name)


def request(request_id: int | str, op: str, body: dict[str, Any] | None = None) -> bytes:
    return pack({"v": PROTOCOL_VERSION, "id": request_id, "op": op, "body": body or {}})


def reply(request_id: object, body: dict[str, Any]) -> bytes:
    return pack({"v": PROTOCOL_VERSION, "id": request_id, "ok": True, "body": body})


def refusal(request_id: object, error: dict[str, str]) -> bytes:
    return pack({"v": PROTOCOL_VERSION, "id": request_id, "ok": False, "error": error})
