"""Questions to models as they are submitted: what does not go together is refused, and tier and deadline are written out."""

from __future__ import annotations

from typing import Any, Final

from gemflowd.model import calls
from gemflowd.model.errors import Invalid
from gemflowd.server import tiers
from gemflowd.server.desk import Body

#: Task types that are looked at here.
TYPES: Final = calls.TYPES
_CODES: Final = {"bad_request": "invalid_value"}


def written_out(data: Body, priority: int, now: float, path: str, *, many: bool, vertex: bool) -> dict[str, Any]:
    """The data with tier and deadline written out.

    Args:
        now: seconds since the epoch.
        path: of the data.
        many: whether the request has many tasks.
        vertex: whether models are asked through Vertex AI.

    Raises:
        Invalid: `not_supported`, `invalid_value`, `wrong_type`, with the field's path.
    """
    if (wrong := calls.misfit(data, vertex=vertex)) is not None:
        raise Invalid(_CODES.get(wrong.code, wrong.code), wrong.message, f"{path}.{wrong.field}")
    if "tier" not in data and "deadline" not in data:
        return data
    return tiers.write_out(data, priority, now, path, many=many, vertex=vertex)
