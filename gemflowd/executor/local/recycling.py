"""When a worker has served long enough, and how much memory it may have. Pure: figures in, a reason out.

The soft limit is below the cap, so that what earlier tasks have left in a worker does not count against the next one: a worker that grows
slowly is replaced between two tasks before an innocent one is killed for it.
"""

from __future__ import annotations

import random
from typing import Final

from gemflowd.executor.base import WorkerLimits

MB: Final = 1024 * 1024
#: The share of the cap above which a worker is replaced after a task.
SOFT_SHARE: Final = 0.8
#: Workers that were started together are not to leave together: each has its figures times 1 ± this.
_JITTER: Final = 0.1


def jitter(rng: random.Random) -> float:
    """The factor by which one worker's figures differ from the settings, drawn once for its life."""
    return 1 + rng.uniform(-_JITTER, _JITTER)


def cap_of(limits: WorkerLimits, baseline: int) -> int:
    """Bytes above which a worker is killed: the setting, but never less than a quarter more than it has before its first task."""
    return max(limits.memory_mb * MB, baseline + baseline // 4)


def reason(limits: WorkerLimits, factor: float, *, done: int, age: float, rss: int | None, cap: int) -> str | None:
    """Why a worker should be replaced when its task has ended, None when it may go on.

    Args:
        factor: its `jitter`.
        done: tasks that it has ended.
        age: seconds since it was started.
        rss: bytes that it has between tasks; None where nobody looked.
        cap: bytes, see `cap_of`.
    """
    if age < limits.min_life:
        return None
    if limits.max_tasks and done >= round(limits.max_tasks * factor):
        return f"{done} tasks"
    if limits.max_age and age >= limits.max_age * factor:
        return f"{age:.0f} s old"
    if rss is not None and rss > cap * SOFT_SHARE:
        return f"{rss // MB} MB after a task; its cap is {cap // MB} MB"
    return None


def look_after(limits: WorkerLimits, factor: float) -> float | None:
    """Seconds of age at which an idle worker must be looked at; None: never."""
    return max(limits.min_life, limits.max_age * factor) if limits.max_age else None


def coroutine_workers(slots: int, used: int, have: int, each: int) -> int:
    """How many coroutine workers there should be: more before the slots of those that there are run out, fewer when few are used.

    Args:
        slots: coroutines at a time, in all.
        used: those that run now.
        have: workers that there are.
        each: slots of one worker.
    """
    most = max(1, -(-slots // each))
    if used * 5 >= have * each * 4:  # four fifths: four times as many, for a burst has just begun
        return min(most, max(have * 4, 1))
    needed = max(1, -(-used * 3 // (each * 2)))  # half as much room again as is used
    return min(most, have, needed)
