"""A running attempt puts the limit to sleep that it falls under, and goes on itself."""

from __future__ import annotations

from typing import Any

from gemflowd.core import limits
from gemflowd.engine.rows import Rows
from gemflowd.model.errors import Refused
from gemflowd.model.facts import SleepLimit


def sleep_limit(rows: Rows, fact: SleepLimit) -> dict[str, Any]:
    """Raises: Refused: `stale_attempt`, or `not_found`: the task falls under no limit."""
    turn, task = rows.turn, rows.speaking(fact.speaker)
    bucket = limits.bucket_of(turn.buckets, turn.lanes[task.lane])
    if bucket is None:
        raise Refused("not_found", f"tasks of type {task.type!r} fall under no limit (`bucket` of its handler)")
    limits.put_to_sleep(turn, bucket, fact.seconds)
    return {"bucket": bucket.name, "until": turn.now + bucket.asleep_until - turn.steady}
