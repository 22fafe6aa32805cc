"""Every frame that was ever released still means what it meant, and what is sent today is what is recorded."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gemflowd.model.errors import Invalid
from gemflowd.protocol import codec, messages

GOLDEN = Path(__file__).parents[1] / "golden"
FRAMES = [
    (path.stem, frame)
    for path in sorted(GOLDEN.glob("v*.json"))
    for frame in json.loads(path.read_text("utf-8"))["frames"]
]


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("version", "frame"), FRAMES, ids=[f"{version}-{frame['name']}" for version, frame in FRAMES])
def test_a_released_frame_still_means_the_same(version: str, frame: dict[str, Any]) -> None:
    decoded = codec.decode(bytes.fromhex(frame["hex"]))
    assert plain(decoded) == frame["meaning"]
    assert codec.pack(decoded).hex() == frame["hex"], f"{version}: the bytes would be others today"
    if "op" in decoded and decoded["op"] == "submit":
        body = messages.read(messages.Submit, decoded["body"])
        for task in body.tasks:
            messages.read(messages.Task, task)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"", "bad_frame"),
        (b"\xc1", "bad_frame"),
        (b"\x93\x01\x02\x03", "bad_frame"),
        (b"\x81\x01\x02", "bad_frame"),  # a key that is no string
        (b"\x80\x80", "bad_frame"),  # something behind the map
        (b"\x81\xa1a" + b"\x91" * 2000 + b"\x01", "too_deep"),
        (b"\x80" + b"\0" * codec.MAX_FRAME_BYTES, "frame_too_large"),
    ],
)
def test_a_frame_that_is_none_is_refused(frame: bytes, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        codec.decode(frame)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("value", "code", "path"),
    [
        ({"a": float("nan")}, "invalid_value", "data.a"),
        ({"a": [1, float("-inf")]}, "invalid_value", "data.a[1]"),
        ({"a": 2**63}, "invalid_value", "data.a"),
        ({"a": {1: 2}}, "wrong_type", "data.a"),
        ({"a": object()}, "wrong_type", "data.a"),
    ],
)
def test_a_value_that_must_not_be_sent_is_refused_with_its_path(value: Any, code: str, path: str) -> None:
    with pytest.raises(Invalid) as refused:
        codec.check_value(value, "data")
    assert (refused.value.code, refused.value.path) == (code, path)


def test_depth_is_limited() -> None:
    def nested(depth: int) -> Any:
        return {"a": nested(depth - 1)} if depth else 1

    codec.check_value(nested(codec.MAX_DEPTH), "data")
    with pytest.raises(Invalid) as refused:
        codec.check_value(nested(codec.MAX_DEPTH + 1), "data")
    assert refused.value.code == "too_deep"
