"""A question that goes into a batch: how it gets there, and what becomes of it.

An attempt puts the rendered question where the daemon collects them, and ends as `parked`: nothing holds a slot while Google works.
The attempt after that takes the answer, and treats it as any other. Sending and fetching are another task's business (`batch`).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.errors import Again, HandlerError, Instead, Parked, Permanent, RateLimited, Transient
from gemflowd.handlers.gemini.failures import explain
from gemflowd.handlers.gemini.request import Request
from gemflowd.handlers.gemini.tiers import Way
from gemflowd.model.batch import BUCKET, DEADLINE, EXPIRED, MOST_BYTES
from gemflowd.model.calls import uses_vertex

if TYPE_CHECKING:
    from google.genai import types

    from gemflowd.worker.context import AsyncContext

#: Seconds for which a question is parked at most: Google gives a batch up after 48 hours, and its task tells of that.
_LONGEST: Final = 4 * 86_400.0
#: Seconds after its deadline in which the batch is given up by its task. A question that looks after half of them waits no more:
#: nobody carries its batch.
_GRACE: Final = 60.0
#: Of a question's settings: they are not for a batch.
_NOT_SENT: Final = {"http_options", "service_tier", "automatic_function_calling", "automatic_continuation", "labels"}
#: Numbers of google.rpc.Code as HTTP says them.
_HTTP: Final = {
    1: 499,
    2: 500,
    3: 400,
    4: 504,
    5: 404,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    13: 500,
    14: 503,
    15: 500,
    16: 401,
}


def is_parked(note: Any) -> bool:
    """Whether an earlier attempt has put the question into a batch."""
    return isinstance(note, Mapping) and bool(note.get("parked"))


async def join(request: Request, way: Way, context: AsyncContext) -> Parked:
    """Put the question into a batch. Returns how the attempt ends.

    Raises:
        Again: there are no batches; the standard tier is asked.
        Permanent: `request_too_large`.
        RequestRefused: the daemon takes nothing now.
    """
    if uses_vertex(os.environ) and not context.settings.get("gemini_offline"):
        message = "batches are not supported with Vertex AI: the standard tier is asked"
        context.log(message)
        raise Again(message, Instead({**_said(context.note), "tier": "standard"}), code="not_supported")
    packed = _packed(request)
    if len(packed) > MOST_BYTES:
        message = f"the question has {len(packed)} bytes; a batch takes {MOST_BYTES}"
        raise Permanent(message, code="request_too_large")
    now = time.time()
    await context.batch.join(request.model, packed, _shared(way.until, now))
    note = {**_said(context.note), "parked": request.model}
    seconds = _LONGEST if way.until is None else min(_LONGEST, way.until - now + _GRACE)
    return Parked("waits for its batch", seconds=seconds, instead=Instead(note, f"{BUCKET}{request.model}"))


async def take(context: AsyncContext, until: float | None) -> types.GenerateContentResponse:
    """The answer.

    Args:
        until: when it has to be the standard tier (`Way.until`).

    Raises:
        Again: there will be none: the standard tier is asked, or another batch.
        Parked: there is none yet.
        Transient, Permanent: Gemini has refused this question, or the whole batch has failed.
    """
    from google.genai import types

    left = math.inf if until is None else until + _GRACE / 2 - time.time()
    found = await context.batch.take(late=left <= 0)
    otherwise = standard(context.note)
    if "waits" in found:
        raise Parked("waits for its batch", seconds=max(1.0, min(_GRACE / 2, left)), instead=Instead(context.note))
    if "over" in found:
        reason = str(found["over"])
        if reason in (DEADLINE, EXPIRED):
            raise Again("its batch has no answer in time: the standard tier is asked", otherwise, code=reason)
        failure = Transient(f"its batch has come to nothing: {reason}", code=reason)
        failure.instead = otherwise
        raise failure
    if not found:
        said = _said(context.note)
        del said["parked"]
        raise Again("goes into another batch", Instead(said, otherwise.bucket, anew=False))
    try:
        answer = types.InlinedResponse.model_validate_json(found["answer"])
    except ValueError:
        failed = Transient("its answer in the batch can't be read", code="bad_response")
        failed.instead = otherwise
        raise failed from None
    if answer.response is not None:
        return answer.response
    refused = _failure(answer.error)
    if isinstance(refused, Transient):
        refused.instead = otherwise
    raise refused


def standard(note: Any) -> Instead:
    """The way from a batch to the standard tier."""
    said = _said(note)
    model = said.pop("parked")
    return Instead({**said, "tier": "standard"}, f"gemini:{model}", anew=False)


def _failure(error: types.JobError | None) -> HandlerError:
    """As if the question had been asked alone. A quota of batches is none of the model's limit: the task waits by itself."""
    from google.genai import errors

    code = (error.code if error else None) or 500
    status = _HTTP.get(code, code)
    body = {"error": {"code": status, "message": (error.message if error else None) or "no reason given"}}
    failure = explain(errors.APIError(status, body), 0.0)
    if isinstance(failure, RateLimited):
        return Transient(failure.message, code=failure.code)
    return failure


def _packed(request: Request) -> bytes:
    from google.genai import types

    config = request.config.model_copy(update=dict.fromkeys(_NOT_SENT))
    item = types.InlinedRequest(contents=list(request.contents), config=config)
    return item.model_dump_json(exclude_none=True).encode("utf-8", "replace")


def _shared(until: float | None, now: float) -> int:
    """When the batch is given up: a little before the question's own time is over, so that others have the same."""
    if until is None:
        return 0
    step = 2 ** int(math.log2(max(1.0, (until - now) / 16)))
    return max(1, int(until // step * step) if until // step * step > now else int(until))


def _said(note: Any) -> dict[str, Any]:
    return dict(note) if isinstance(note, Mapping) else {}
