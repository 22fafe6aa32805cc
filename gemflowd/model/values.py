"""What a free value (data, metadata, a result) may hold: what every MessagePack library and JSON can carry."""

from __future__ import annotations

import math
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
    """The path is put together on the way out: building it for every item would cost more than the check."""
    kind = type(value)
    if kind is str or kind is bool or value is None or kind is bytes:
        return
    if kind is int:
        if not _MIN_INT <= value <= _MAX_INT:  # type: ignore[operator]
            raise Invalid("invalid_value", "integers must fit in 64 bits, signed")
    elif kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise Invalid("invalid_value", "NaN and infinities are refused")
    elif kind is dict or kind is list or kind is tuple:
        if depth <= 0:
            raise Invalid("too_deep", f"values may be nested at most {MAX_DEPTH} deep")
        left[0] -= len(value)  # type: ignore[arg-type]
        if left[0] < 0:
            raise Invalid("invalid_value", f"a value may have at most {MAX_ITEMS} items")
        if kind is dict:
            for key, item in value.items():  # type: ignore[attr-defined]
                if type(key) is not str:
                    raise Invalid("wrong_type", f"map keys must be strings, not {type(key).__name__}")
                if type(item) is not str:
                    try:
                        _check(item, depth - 1, left)
                    except Invalid as error:
                        error.path = f".{key[:200]}{error.path or ''}"
                        raise
        else:
            for index, item in enumerate(value):  # type: ignore[arg-type]
                if type(item) is not str:
                    try:
                        _check(item, depth - 1, left)
                    except Invalid as error:
                        error.path = f"[{index}]{error.path or ''}"
                        raise
    else:
        raise Invalid("wrong_type", f"a value of type {kind.__name__} can't be sent")
