"""`again`: a handler that wants another attempt in another way says what to do differently, and under which limit.

The note lies in the error of the attempt that ended so; the next attempts get it with their orders, after a crash too. An error may
name another way as well: it is taken where the task would fail otherwise, such as another model where the first can't be had.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import msgpack

from gemflowd.core.retry import retries_for
from gemflowd.model.attempt import Ended, Outcome
from gemflowd.model.task import Task

#: Attempts of one task that may end like this: a handler has a lower limit of its own, and one with a defect has this.
MOST: Final = 100
_WORD: Final = "instead"
_MARK: Final = msgpack.packb(_WORD)
_MOST_WORDS: Final = 200
_FAILURES: Final = (Outcome.ERROR, Outcome.PERMANENT, Outcome.RATE_LIMITED)


@dataclass(frozen=True, slots=True)
class Way:
    """What the next attempt does differently.

    Attributes:
        bucket: the limit that it falls under, None: as before.
        hold: why it waits for a person's `release`, None: it does not.
    """

    note: bytes  # MessagePack
    bucket: str | None
    reason: str
    hold: str | None = None


def instead(task: Task, ended: Ended, default: int) -> Ended:
    """An error that names another way, as `again`, if the task has no other: its tries are used up, or don't count.

    Args:
        default: retries of a task that says nothing of them.
    """
    if ended.outcome not in _FAILURES or task.cancelled or _way(ended) is None:
        return ended
    if ended.outcome is Outcome.ERROR and task.tries < retries_for(task, ended.payload, default):
        return ended
    return replace(ended, outcome=Outcome.AGAIN)


def noted(ended: Ended) -> Way:
    """What an attempt that ended as `again` says. Without a note the next one is as this one was."""
    return _way(ended) or Way(msgpack.packb(None), None, "again")


def note_of(error: bytes | None) -> bytes | None:
    """The note in the stored error of such an attempt, MessagePack."""
    if error is None:
        return None
    found = msgpack.unpackb(error, strict_map_key=False).get(_WORD)
    return msgpack.packb(found["note"]) if found else None


def _way(ended: Ended) -> Way | None:
    if _MARK not in ended.payload:
        return None
    error: dict[str, Any] = msgpack.unpackb(ended.payload, strict_map_key=False)
    found = error.get(_WORD)
    if not isinstance(found, dict):
        return None
    reason = f"{error.get('code')}: {error.get('message')}"[:_MOST_WORDS]
    hold = found.get("hold")
    return Way(
        msgpack.packb(found.get("note")), found.get("bucket"), reason, None if hold is None else str(hold)[:_MOST_WORDS]
    )
