"""What a task may want of the cache of model calls. What the words mean for users is in docs/semantics.md."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Storing(StrEnum):
    """What becomes of an answer."""

    NO = "no"
    NEW = "new"  # stored where there is none
    REPLACE = "replace"


class Mode(NamedTuple):
    """
    Attributes:
        uses: an answer that is stored will do.
        shares: so will one that somebody else is just waiting for.
    """

    uses: bool
    shares: bool
    storing: Storing


#: By the word in a task's `cache`. `off` is not among them: such a call asks nothing of the daemon.
MODES: Final = {
    "on": Mode(True, True, Storing.NEW),
    "read": Mode(True, True, Storing.NO),
    "write": Mode(False, False, Storing.NEW),
    "refresh": Mode(False, True, Storing.REPLACE),
    "replace": Mode(False, False, Storing.REPLACE),  # no word of a task's: `refresh` where the answer is there already
}
#: What a task and the setting `cache` may say: `auto` is `on` at temperature 0, else `off`.
WORDS: Final = ("auto", "on", "read", "write", "refresh", "off")
#: Bytes of a key.
KEY_BYTES: Final = 32
