"""Text from elsewhere, made harmless for a terminal. Pure.

A task's output may hold anything; it must not be able to move the cursor, set the title, or turn the direction of writing.
"""

from __future__ import annotations

import re
from typing import Final

#: C0 and C1 controls, DEL, line and paragraph separators, marks that turn the direction of text, lone surrogates.
_HARMFUL: Final = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_TEXT: Final = re.compile(f"[{_HARMFUL}]")
_IN_LINE: Final = re.compile(f"[{_HARMFUL}\t\n]")
_SHORT: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def text(value: object) -> str:
    """A text of several lines: newlines and tabs stay, other controls are shown as escapes."""
    return _IN_TEXT.sub(_escape, str(value))


def line(value: object, width: int | None = None) -> str:
    """One line: newlines and tabs are shown as escapes too; at most `width` characters."""
    shown = _IN_LINE.sub(_escape, str(value))
    return shown if width is None or len(shown) <= width else f"{shown[: width - 1]}…"


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
