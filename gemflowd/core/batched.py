"""Attempts that put a question into a batch of model calls, or take its answer: they ask nobody, whatever limit they are under.

Does not cover: the batches themselves (`engine.batches`).
"""

from __future__ import annotations

from typing import Final

from gemflowd.core import another_way
from gemflowd.model.attempt import Ended, Outcome
from gemflowd.model.batch import BUCKET
from gemflowd.model.lane import Lane

#: How an attempt may end without having done anything with an answer.
_BROKEN_OFF: Final = frozenset({Outcome.LOST, Outcome.CRASH, Outcome.SUSPECT, Outcome.MEMORY, Outcome.TIMEOUT})


def is_in_batch(lane: Lane) -> bool:
    """Whether the tasks of a lane have a question in a batch."""
    return lane.key.bucket is not None and lane.key.bucket.startswith(BUCKET)


def asked_nobody(lane: Lane, ended: Ended) -> bool:
    """Whether an attempt that has ended made no call."""
    return is_in_batch(lane) or (ended.outcome is Outcome.PARKED and _joined(ended))


def goes_on(lane: Lane, ended: Ended) -> bool:
    """Whether what was reserved for an attempt stays so: its question is in a batch, and the answer is to be paid for, whenever it is
    taken."""
    if is_in_batch(lane):
        return ended.outcome is Outcome.PARKED or ended.outcome in _BROKEN_OFF
    return ended.outcome is Outcome.PARKED and _joined(ended)


def _joined(ended: Ended) -> bool:
    bucket = another_way.noted(ended).bucket
    return isinstance(bucket, str) and bucket.startswith(BUCKET)
