"""Names that people give to things: task ids and references to tasks and flows."""

from __future__ import annotations

import re
from typing import Final

ID_PATTERN: Final = r"[A-Za-z0-9_.-]{1,128}"
_ID = re.compile(ID_PATTERN)

#: Largest number that is accepted for a task or flow (SQLite's and msgpack's signed 64 bits).
MAX_NUMBER: Final = 2**63 - 1


def is_task_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None
