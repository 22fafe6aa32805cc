"""What a turn wants done outside, after its commit: act, publish, reply, in this order."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from gemflowd.model.attempt import Start
from gemflowd.model.errors import Refused
from gemflowd.model.event import EventBatch
from gemflowd.model.facts import Reply
from gemflowd.model.states import State


class Retract(IntEnum):
    """What of all that was handed over and has not begun is to come back."""

    NOTHING = 0
    AHEAD = 1  # what waits behind a task that is not very short
    ALL = 2


class TaskEnded(NamedTuple):
    task: int
    flow: int
    state: State
    seconds: float  # of the last attempt, 0 where there was none


@dataclass(slots=True)
class Effects:
    starts: list[Start] = field(default_factory=list)
    cancels: list[tuple[int, int]] = field(default_factory=list)  # task, token
    retract: Retract = Retract.NOTHING
    events: EventBatch | None = None
    logs: list[tuple[int, int, float, str, str]] = field(default_factory=list)
    ended: list[TaskEnded] = field(default_factory=list)
    replies: list[tuple[Reply, dict[str, Any] | Refused]] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)  # flows that are not there any more: what they had elsewhere goes too
    closed: list[int] = field(default_factory=list)  # flows that have ended, perhaps without the end of a task
    running: int = 0  # attempts in flight after this turn
    stopped: bool = False  # the engine's thread has ended
    failure: BaseException | None = None  # and why, if not asked to
