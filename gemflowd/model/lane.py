"""A lane: tasks that are startable or not as a group. And the limit that several lanes may share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from gemflowd.model.attempt import Kind
from gemflowd.model.limit import Figures, Ledger, Sent


@dataclass(slots=True, frozen=True)
class LaneKey:
    """What makes a lane. `gate` is the number of the flow that must be complete before anything of the lane runs, 0: none."""

    queue: str
    bucket: str | None
    kind: Kind
    gate: int = 0
    resources: str = ""  # named amounts that each of its tasks needs: "disk=2,gpu=1", by name
    others: str = ""  # limits that its tasks may fall under, one after the other, a line each; the first is their own


@dataclass(slots=True)
class Lane:
    number: int
    key: LaneKey
    open: bool = True  # False while the flow behind the gate is being received
    shift: float = 0.0  # added to the tags of its tasks: what passed while the gate was shut
    shares: bool = field(init=False)  # whether its tasks fall under a limit or need something that others need, too

    def __post_init__(self) -> None:
        self.shares = self.key.bucket is not None or bool(self.key.resources)


@dataclass(slots=True)
class Queue:
    """A named queue that was paused or limited at least once."""

    name: str
    paused: bool = False
    most: int | None = None  # of its tasks at a time
    running: int = 0  # not stored


#: The resource that stands for devices: whole ones, or a share of one.
GPU: Final = "gpu"


@lru_cache(maxsize=1024)
def amounts(resources: str) -> tuple[tuple[str, float], ...]:
    """The named amounts of a lane's key."""
    return tuple(
        (name, float(amount)) for name, _, amount in (part.partition("=") for part in resources.split(",") if part)
    )


def resource_key(needs: dict[str, float]) -> str:
    """The same amounts in the same words, whatever their order."""
    return ",".join(f"{name}={amount:g}" for name, amount in sorted(needs.items()) if amount)


def other_limits(key: LaneKey) -> list[str]:
    """Those that come after the one that the lane is under."""
    names = key.others.split("\n") if key.others else []
    return names[names.index(key.bucket) + 1 :] if key.bucket in names else []


@dataclass(slots=True)
class Bucket:
    """A limit that tasks share, such as the quota of one model."""

    name: str
    asleep_until: float = 0.0  # by the steady clock
    in_flight: int = 0  # not stored: what runs now
    given: dict[str, Any] = field(default_factory=dict)  # figures that were set at run time
    ledger: Ledger = field(default_factory=Ledger)
    # Not stored.
    sent: dict[int, Sent] = field(default_factory=dict)  # by running task; after a restart nobody knows
    figures: Figures | None = None  # those in force; None: to be found out
    figures_of: object = None  # the settings that they follow from
    figures_until: float = math.inf  # when one of them is too old, steady
    blocked: Blocked | None = None  # who comes next, and has to wait
    wakes: float = 0.0  # when that may have come to an end, by the steady clock
    wakes_wall: float = 0.0  # the same by the wall clock; 0: not for the day


class Blocked(NamedTuple):
    """A ready task that its limit keeps from starting: who comes after it must not take what it waits for."""

    lane: int
    key: tuple[int, float, int]  # of core.lanes
