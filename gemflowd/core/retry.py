"""How long a task waits before its next try."""

from __future__ import annotations

import json
import random
from typing import Final

import msgpack

from gemflowd.model.task import Task

FACTOR: Final = 2.0
CAP: Final = 300.0  # seconds


def backoff(base: float, tries: int, rng: random.Random) -> float:
    """Seconds before the next try after `tries` charged ones: exponential with full jitter, so that a herd spreads out."""
    return rng.uniform(0.0, min(CAP, base * FACTOR ** min(tries - 1, 32)))


def retries_for(task: Task, payload: bytes, default: int) -> int:
    """Tries after the first that a task has, for the error that just ended one: the rule for its class or code, else its own.

    Args:
        payload: of the outcome: MessagePack, `{class, code, …}`.
    """
    if task.rules is not None:
        error = msgpack.unpackb(payload, strict_map_key=False)
        rules: dict[str, int] = json.loads(task.rules)
        for name in (error.get("class"), error.get("code")):
            if name in rules:
                return rules[name]
    return default if task.retries is None else task.retries
