"""`again`: a handler that wants another attempt in another way says what to do differently, and under which limit. `parked`: it
wants one after a while.

The note lies in the error of the attempt that ended so; the next attempts get it with their orders, after a crash too. An error may
name another way as well: it is taken where the task would fail otherwise, such as another model where the first can't be had.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import msgpack

from gemflowd.core.retry import retries_for
from gemflowd.model.attempt import Ended, Outcome
from gemflowd.model.limit import MAX_NAME
from gemflowd.model.task import Task

#: Seconds for which a handler may park its task.
_PARKED: Final = (0.05, 30 * 86_400.0)
#: Attempts of one task that may end as `again`: a handler has a lower limit of its own, and one with a defect has this.
MOST: Final = 100
_WORD: Final = "instead"
_MARK: Final = msgpack.packb(_WORD)
_MARK_TASKS: Final = msgpack.packb("tasks")
_MOST_WORDS: Final = 200
_FAILURES: Final = (Outcome.ERROR, Outcome.PERMANENT, Outcome.RATE_LIMITED)


@dataclass(frozen=True, slots=True)
class Way:
    """What the next attempt does differently. `bucket`: the limit that it falls under, None: as before; `anew`: its tries count anew
    with another one; `hold`: why it waits for a person's `release` of the task itself, None: it does not."""

    note: bytes  # MessagePack
    bucket: str | None
    reason: str
    anew: bool = True
    hold: str | None = None


def instead(task: Task, ended: Ended, default: int) -> Ended:
    """An error that names another way, as `again`, if the task has no other: its tries are used up, or don't count.

    One that names what can be no limit is `permanent`, with code `bad_bucket`.

    Args:
        default: retries of a task that says nothing of them.
    """
    way = _way(ended)
    if way is None or task.cancelled:
        return ended
    named: Any = way.bucket  # it comes from a handler
    if named is not None and not (isinstance(named, str) and 0 < len(named) <= MAX_NAME):
        message = f"`bucket` of its `Instead` must be the name of a limit, of 1 to {MAX_NAME} characters"
        error = {"class": "Instead", "code": "bad_bucket", "message": message}
        return replace(ended, outcome=Outcome.PERMANENT, payload=msgpack.packb(error))
    if ended.outcome not in _FAILURES:
        return ended
    if ended.outcome is Outcome.ERROR and task.tries < retries_for(task, ended.payload, default):
        return ended
    return replace(ended, outcome=Outcome.AGAIN)


def names_one(ended: Ended) -> bool:
    """Whether an attempt that has ended names another way."""
    return _way(ended) is not None


def noted(ended: Ended) -> Way:
    """What an attempt that ended as `again` or `parked` says. Without a note the next one is as this one was."""
    return _way(ended) or Way(msgpack.packb(None), None, "again")


def parked_for(ended: Ended) -> float:
    """Seconds that an attempt which ended as `parked` asks for, within reason."""
    least, most = _PARKED
    wanted = ended.retry_after
    return least if wanted is None or not wanted >= least else min(wanted, most)


def note_of(error: bytes | None) -> bytes | None:
    """The note in the stored error of such an attempt, MessagePack."""
    found = None if error is None else _unpacked(error).get(_WORD)
    return msgpack.packb(found.get("note")) if isinstance(found, dict) else None


def _unpacked(error: bytes) -> dict[str, Any]:
    """What an attempt has said; nothing where it is none of ours, which is kept as it is."""
    try:
        found = msgpack.unpackb(error, strict_map_key=False)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def awaited(ended: Ended) -> list[Any]:
    """Numbers of the tasks that must have ended before the next attempt, as the handler has said them."""
    if _MARK_TASKS not in ended.payload or _MARK not in ended.payload:
        return []
    found = msgpack.unpackb(ended.payload, strict_map_key=False).get(_WORD)
    return list(found.get("tasks") or ()) if isinstance(found, dict) else []


def _way(ended: Ended) -> Way | None:
    if _MARK not in ended.payload:
        return None
    error = _unpacked(ended.payload)
    found = error.get(_WORD)
    if not isinstance(found, dict):
        return None
    reason = f"{error.get('code')}: {error.get('message')}"[:_MOST_WORDS]
    hold = found.get("hold")
    return Way(
        msgpack.packb(found.get("note")),
        found.get("bucket"),
        reason,
        found.get("anew") is not False,
        None if hold is None else str(hold)[:_MOST_WORDS],
    )
