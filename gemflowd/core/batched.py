"""Attempts that put a question into a batch of model calls, or take its answer: they ask nobody, whatever limit they are under.

Does not cover: the batches themselves (`engine.batches`).
"""

from __future__ import annotations

from typing import Final

from gemflowd.core import another_way
from gemflowd.model.attempt import Ended, Outcome
from gemflowd.model.batch import BUCKET
from gemflowd.model.lane import Lane

#: How an attempt ends that has done with an answer what there was to do; with one of the others if it names another way.
_JUDGED: Final = frozenset({Outcome.DONE, Outcome.PERMANENT, Outcome.AGAIN})
_FAILED: Final = frozenset({Outcome.ERROR, Outcome.RATE_LIMITED})


def is_in_batch(lane: Lane) -> bool:
    """Whether the tasks of a lane have a question in a batch."""
    return lane.key.bucket is not None and lane.key.bucket.startswith(BUCKET)


def asked_nobody(lane: Lane, ended: Ended) -> bool:
    """Whether an attempt that has ended made no call."""
    return is_in_batch(lane) or (ended.outcome is Outcome.PARKED and _joined(ended))


def is_judged(ended: Ended) -> bool:
    """Whether an attempt that took what came of its question has done with it. An error that names no other way says nothing of the
    answer: something else went wrong, and the next attempt takes it again."""
    return ended.outcome in _JUDGED or (ended.outcome in _FAILED and another_way.names_one(ended))


def goes_on(lane: Lane, ended: Ended) -> bool:
    """Whether what was reserved for an attempt stays so: its question is in a batch, and the answer is to be paid for, whenever it is
    taken and judged."""
    if is_in_batch(lane):
        return not is_judged(ended)
    return ended.outcome is Outcome.PARKED and _joined(ended)


def _joined(ended: Ended) -> bool:
    bucket = another_way.noted(ended).bucket
    return isinstance(bucket, str) and bucket.startswith(BUCKET)
