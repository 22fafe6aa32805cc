"""Tasks by what their submitter wrote into `metadata`. It is stored in the task's body, and looked at there: no submission pays for
a question that is rarely asked. So one question looks at a bounded number of tasks, and its page says how far it came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgpack

#: Tasks, and bytes of their bodies, that one question looks at, about: some 100 ms.
MOST_LOOKED: Final = 20_000
MOST_BYTES: Final = 64 * 1024 * 1024

Row = Sequence[Any]


def matching(rows: Iterable[Row], wanted: Mapping[str, Any], limit: int) -> tuple[list[Row], int | None]:
    """Those of some tasks whose metadata has all that is wanted.

    Args:
        rows: by number, which comes first; last comes the body.

    Returns:
        At most `limit` of them, and the number of the task that was looked at last; None when it was the last of all.
    """
    keys = [key.encode("utf-8", "surrogatepass") for key in wanted]
    found: list[Row] = []
    size = 0
    for looked, row in enumerate(rows, 1):
        body: bytes = row[-1]
        if all(key in body for key in keys) and has(body, wanted):  # the former is cheap, and tells most of them
            found.append(row)
        size += len(body)
        if len(found) == limit or looked == MOST_LOOKED or size >= MOST_BYTES:
            return found, row[0]
    return found, None


def has(body: bytes, wanted: Mapping[str, Any]) -> bool:
    """Whether the metadata in a task's body has these keys with these values."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(body)
    for _ in range(unpacker.read_map_header()):
        if unpacker.unpack() == "metadata":
            metadata = unpacker.unpack()
            return all(key in metadata and same(metadata[key], value) for key, value in wanted.items())
        unpacker.skip()
    return False


def same(one: Any, other: Any) -> bool:
    """Equal as JSON has it: 1 and 1.0 are one number, and true is none."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
