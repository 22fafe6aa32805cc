"""`tier` and `deadline` of a `gemini` task, written out when it is submitted: the tier that was chosen, and the deadline as a moment,
because who makes the call does not know when the task came."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from gemflowd.model.errors import Invalid
from gemflowd.model.tiers import TIERS, WAITING, batchable, cheapest
from gemflowd.protocol.moments import parse_moment

_MOST_SECONDS: Final = 365 * 86_400.0


def write_out(
    data: Mapping[str, Any], priority: int, now: float, path: str, *, many: bool, vertex: bool
) -> dict[str, Any]:
    """The data with both written out. What is no tier at all is left to the schema.

    Args:
        now: seconds since the epoch.
        path: of the data.
        many: whether the request has many tasks.
        vertex: whether models are asked through Vertex AI, where there are no batches.

    Raises:
        Invalid: they don't go together, or with something else.
    """
    written = dict(data)
    tier = data.get("tier")
    deadline = _deadline(data.get("deadline"), now, f"{path}.deadline")
    if deadline is not None and (tier is None or tier in TIERS) and tier not in WAITING:
        raise Invalid("invalid_value", "goes with the tiers auto, flex and batch", f"{path}.deadline")
    if tier is not None and _says_service_tier(data):
        raise Invalid("invalid_value", "give `tier` or `service_tier`, not both", f"{path}.tier")
    if tier == "auto":
        left = None if deadline is None else deadline - now
        # Of a conversation each question would wait for a batch of its own: who wants that says so.
        written["tier"] = cheapest(data, priority, left, many=many and not vertex and not data.get("tools"))
    elif tier == "batch" and not batchable(data):
        message = "a question with `stream` or `files` can't go into a batch: leave them out, or ask with the tier flex"
        raise Invalid("not_supported", message, f"{path}.tier")
    elif tier == "batch" and vertex:
        message = (
            "there are no batches with Vertex AI: ask with the tier flex or standard, or with a key of the Gemini API"
        )
        raise Invalid("not_supported", message, f"{path}.tier")
    if deadline is not None:
        written["deadline"] = datetime.fromtimestamp(deadline, UTC).isoformat(timespec="milliseconds")
    if written.get("tier") not in WAITING:
        written.pop("deadline", None)
    return written


def _says_service_tier(data: Mapping[str, Any]) -> bool:
    config = data.get("config")
    return bool(data.get("service_tier")) or (
        isinstance(config, Mapping) and bool(config.get("service_tier") or config.get("serviceTier"))
    )


def _deadline(value: object, now: float, path: str) -> float | None:
    """Seconds since the epoch. A number is seconds from now on, a text a moment."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            moment = parse_moment(value)
        except ValueError as error:
            raise Invalid("invalid_value", str(error), path) from None
        if not 0 <= moment <= 1e11:
            raise Invalid("invalid_value", "must be from 0 to 1e+11", path)
        return moment
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid("wrong_type", "must be seconds from the submission on, or a moment", path)
    if not 0 < value <= _MOST_SECONDS:  # NaN is not between anything
        raise Invalid("invalid_value", f"must be more than 0, and at most {_MOST_SECONDS:g}", path)
    return now + value
