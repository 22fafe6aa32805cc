"""A failure as a result: for who asked on a model's behalf, and tells the model what went wrong.

Covers: the field `errors_as_result` of the task types that a model may ask for. Does not cover what the daemon ends (a timeout, a crash).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from gemflowd.handlers.errors import HandlerError, Permanent, RequestRefused

#: The field's schema, for those of the task types.
FIELD: Final = {"errors_as_result": {"type": "boolean"}}
#: Attempts after which an error that may pass is a result, too.
_TRIES: Final = 3
_MOST_WORDS: Final = 2_000

R = TypeVar("R")


def told(data: dict[str, Any], attempt: int, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `act` returns; `{error: {code, message}}` where it raises, and the data asks for that.

    What may pass is raised, and so tried again, up to the third attempt.
    """
    try:
        return act()
    except Exception as error:
        if not _may_be_told(data, attempt, error):
            raise
        return as_result(error)


async def told_async(
    data: dict[str, Any], attempt: int, act: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    """As `told`, for a coroutine."""
    try:
        return await act()
    except Exception as error:
        if not _may_be_told(data, attempt, error):
            raise
        return as_result(error)


def as_result(error: Exception) -> dict[str, Any]:
    """`{error: {code, message}}`."""
    code = error.code if isinstance(error, HandlerError) else type(error).__name__
    return {"error": {"code": code, "message": str(error)[:_MOST_WORDS]}}


def _may_be_told(data: dict[str, Any], attempt: int, error: Exception) -> bool:
    if not data.get("errors_as_result") or (isinstance(error, RequestRefused) and error.code == "draining"):
        return False
    return attempt >= _TRIES or isinstance(error, Permanent | RequestRefused)
