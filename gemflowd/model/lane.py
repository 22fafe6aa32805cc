"""A lane: tasks that are startable or not as a group. And the limit that several lanes may share."""

from __future__ import annotations

from dataclasses import dataclass

from gemflowd.model.attempt import Kind


@dataclass(slots=True, frozen=True)
class LaneKey:
    """What makes a lane. `gate` is the number of the flow that must be complete before anything of the lane runs, 0: none."""

    queue: str
    bucket: str | None
    kind: Kind
    gate: int = 0


@dataclass(slots=True)
class Lane:
    number: int
    key: LaneKey
    open: bool = True  # False while the flow behind the gate is being received


@dataclass(slots=True)
class Bucket:
    """A limit that tasks share, such as the quota of one model."""

    name: str
    asleep_until: float = 0.0  # seconds since the epoch
    in_flight: int = 0  # not stored: what runs now
