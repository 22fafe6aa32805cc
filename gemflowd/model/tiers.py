"""The tiers of service that a `gemini` task may ask for, and the rule by which `auto` chooses one. Pure.

Does not cover: how a tier is asked for and left again (`handlers.gemini.tiers`), what it costs (`model.prices`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: What a task may say. `priority` is dearer than `standard`, the others are cheaper or as dear.
TIERS: Final = ("auto", "flex", "batch", "standard", "priority")
#: Those that are left for `standard` when the time is up: only with them a deadline means something.
WAITING: Final = frozenset({"auto", "flex", "batch"})
#: From this priority on nobody wants to wait.
URGENT: Final = 8
#: Seconds that flex may need, by Google's word.
FLEX_SECONDS: Final = 15 * 60.0
#: Seconds that a batch may need, by Google's word.
BATCH_SECONDS: Final = 24 * 3600.0
#: Tasks in one request from which on a batch is worth the wait.
MANY: Final = 100


def cheapest(data: Mapping[str, Any], priority: int, left: float | None, *, many: bool) -> str:
    """What `auto` becomes when a task is submitted: the cheapest tier that fits.

    Args:
        left: seconds until the deadline; None: there is none.
        many: whether its request has `MANY` tasks.
    """
    if priority >= URGENT or data.get("stream"):
        return "standard"
    if many and batchable(data) and (left is None or left >= BATCH_SECONDS):
        return "batch"
    return "flex" if left is None or left >= FLEX_SECONDS else "standard"


def batchable(data: Mapping[str, Any]) -> bool:
    """Whether a question can go into a batch: what comes in pieces, or with files that are uploaded for one call, can't."""
    return not data.get("stream") and not data.get("files")
