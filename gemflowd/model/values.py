"""What a free value (data, metadata, a result) may hold: what every MessagePack library and JSON can carry."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from gemflowd.model.errors import Invalid

#: MessagePack's C extension nests up to 511 levels when packing; jsonschema-rs stops at 255. We stay well below both.
MAX_DEPTH: Final = 64
#: Maps, lists and what is in them, in one value.
MAX_ITEMS: Final = 1_000_000
_MAX_INT: Final = 2**63 - 1
_MIN_INT: Final = -(2**63)


def check_value(value: object, path: str) -> None:
    """Refuse what a free value must not hold, with the path of the offender.

    Raises:
        Invalid: `too_deep`, `wrong_type` (a key that is no string, a timestamp or an extension type) or `invalid_value` (NaN,
            infinity, an integer of more than 64 bits, too many items).
    """
    try:
        _check(value, MAX_DEPTH, [MAX_ITEMS])
    except Invalid as error:
        error.path = path + (error.path or "")
        raise


def _check(value: object, depth: int, left: list[int]) -> None:
    """The path is put together on the way out: building it for every item would cost more than the check. And what has nothing
    in it is looked at where it lies: a call for each would cost more, too."""
    kind = type(value)
    if kind is dict:
        items: Iterable[tuple[object, object]] = value.items()  # type: ignore[attr-defined]
    elif kind is list or kind is tuple:
        items = enumerate(value)  # type: ignore[arg-type]
    else:
        _check_plain(value)
        return
    if depth <= 0:
        raise Invalid("too_deep", f"values may be nested at most {MAX_DEPTH} deep")
    left[0] -= len(value)  # type: ignore[arg-type]
    if left[0] < 0:
        raise Invalid("invalid_value", f"a value may have at most {MAX_ITEMS} items")
    for key, item in items:
        if kind is dict and type(key) is not str:
            raise Invalid("wrong_type", f"map keys must be strings, not {type(key).__name__}")
        inner = type(item)
        if inner is str or (inner is int and _MIN_INT <= item <= _MAX_INT):  # type: ignore[operator]
            continue
        try:
            _check(item, depth - 1, left)
        except Invalid as error:
            step = f".{key[:200]}" if kind is dict else f"[{key}]"  # type: ignore[index]
            error.path = step + (error.path or "")
            raise


def _check_plain(value: object) -> None:
    kind = type(value)
    if kind is str or kind is bool or value is None or kind is bytes:
        return
    if kind is int:
        if not _MIN_INT <= value <= _MAX_INT:  # type: ignore[operator]
            raise Invalid("invalid_value", "integers must fit in 64 bits, signed")
    elif kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise Invalid("invalid_value", "NaN and infinities are refused")
    else:
        raise Invalid("wrong_type", f"a value of type {kind.__name__} can't be sent")
