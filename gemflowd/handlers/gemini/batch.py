"""The task type `gemini.batch`: sends the questions that the daemon has collected as one batch, and brings back what comes of it.

Each attempt takes one step and is parked again; no slot is held while Google works. The batch's name at Google is
durable before anything else is done with it, and a batch that was sent by an attempt that could not say so is found again by the UUID in
its display name. Nobody submits such a task: the daemon does. The calls themselves are in `jobs`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.errors import Instead, Parked, RateLimited, Transient
from gemflowd.handlers.gemini import jobs
from gemflowd.handlers.gemini.failures import explain
from gemflowd.handlers.gemini.jobs import Jobs
from gemflowd.model.batch import DEADLINE, EXPIRED, GIVEN_UP

if TYPE_CHECKING:
    from google.genai import types

    from gemflowd.worker.context import AsyncContext

#: Of its data.
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"model": {"type": "string"}},
    "required": ["model"],
    "additionalProperties": False,
}
#: Seconds between two looks, where the setting `batch_poll` does not say; and at one that is being cancelled.
_POLL: Final = 60.0
_CANCELLING: Final = 2.0
#: Seconds after its deadline from which on nothing of a batch that won't end is waited for.
_PATIENCE: Final = 30.0
_NOT_FOUND: Final = 404
#: Answers that are stored at a time, and their bytes, about.
_MOST: Final = 200
_MOST_BYTES: Final = 4 * 1024 * 1024


async def carry(google: Jobs, context: AsyncContext) -> dict[str, Any]:
    """One step of a batch: send it, look at it, or bring its answers.

    Returns:
        `{state, items, answered}`, when it has come to its end.

    Raises:
        Parked: it goes on.
        RequestRefused: `not_found`, this task carries none.
        Permanent, Transient, RateLimited: as `explain` has them. Where the batch has a deadline, what may pass is `Parked`: it is
            looked at again at that time at the latest; and then those who wait are let go, whatever becomes of the batch.
    """
    it = await context.batch.begin()
    try:
        return await (_withdraw if it["over"] else _step)(google, context, it)
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises
        failure = explain(error, context.timeout)
    # Outside of the block, as in `handler`: chained to it, the SDK's exception would be quoted.
    if not isinstance(failure, Transient | RateLimited) or it["over"] or not it["until"]:
        raise failure
    left = it["until"] - time.time()
    if left > 0:
        wanted = (failure.retry_after or 0.0) if isinstance(failure, RateLimited) else 0.0
        seconds = max(0.1, min(left, max(wanted, _poll(context))))
        raise Parked(failure.message, seconds=seconds, instead=Instead(None), code=failure.code)
    await context.batch.end(GIVEN_UP)
    context.log("its deadline is over and it can't be looked at: it is cancelled as soon as that is possible")
    raise failure


async def _withdraw(google: Jobs, context: AsyncContext, it: dict[str, Any]) -> dict[str, Any]:
    """Nobody waits for it any more, and it may have been given up without a word to Google. Raises as `carry`."""
    from google.genai import errors

    ended = {"state": "over", "items": it["items"], "answered": 0}
    try:
        name = it["name"] or await google.named(_display(it))
        if name is None:
            return ended
        job = await google.cancel(name)
    except errors.APIError as error:
        if error.code == _NOT_FOUND:
            return ended
        raise
    if not job.done:
        raise _later(_poll(context), "is being cancelled")
    await google.delete(name)
    return ended


async def _step(google: Jobs, context: AsyncContext, it: dict[str, Any]) -> dict[str, Any]:
    """One step of a batch that is not over. Raises as `carry`, and what the SDK raises."""
    now = time.time()
    late = bool(it["until"]) and now >= it["until"]
    name = it["name"] or (await google.named(_display(it)) if it["tried"] else None)
    if name is None:
        if late or not it["waiting"]:
            return await _end(context, it, DEADLINE, 0)
        name = await _send(google, context, it)
    if it["name"] is None:
        await context.batch.name(name)
        context.log(f"batch {name} with {it['items']} questions")
    job = await google.get(name)
    if not job.done:
        context.progress(0, it["items"], _word(job))
        if not late and it["waiting"]:
            poll = _poll(context)
            raise _later(poll if not it["until"] else min(poll, it["until"] - now), _word(job))
        job = await google.cancel(name)
        if not job.done and (not late or now < it["until"] + _PATIENCE):
            raise _later(_CANCELLING, "is being cancelled")
    answered = await _bring(google, context, it, job)
    context.progress(answered, it["items"], _word(job))
    result = await _end(context, it, _why_over(job, late=late) if job.done else GIVEN_UP, answered)
    await google.delete(name)
    return result


async def _send(google: Jobs, context: AsyncContext, it: dict[str, Any]) -> str:
    questions = [question async for question in context.batch.questions()]
    if not questions:
        raise Transient("there is nothing to send any more", code="conflict")  # the next attempt sees it
    context.progress(0, len(questions), "is being sent")
    return await google.send(it["model"], _display(it), questions)


async def _bring(google: Jobs, context: AsyncContext, it: dict[str, Any], job: types.BatchJob) -> int:
    """Store the answers. Returns how many there are."""
    found = await asyncio.to_thread(jobs.packed, job, google.scrub)
    page: list[tuple[int, bytes]] = []
    size = 0
    for count, (task, answer) in enumerate(found, 1):
        page.append((task, answer))
        size += len(answer)
        if len(page) >= _MOST or size >= _MOST_BYTES or count == len(found):
            await context.batch.answers(page)
            context.progress(count, it["items"], "answers come")
            page, size = [], 0
    return len(found)


async def _end(context: AsyncContext, it: dict[str, Any], reason: str, answered: int) -> dict[str, Any]:
    await context.batch.end(reason)
    return {"state": reason, "items": it["items"], "answered": answered}


def _why_over(job: types.BatchJob, *, late: bool) -> str:
    """What those are told who have no answer."""
    state = _word(job)
    if state == "expired":
        return EXPIRED
    if late:
        return DEADLINE
    return "unanswered" if state in ("succeeded", "partially_succeeded") else f"batch_{state}"


def _poll(context: AsyncContext) -> float:
    return float(context.settings.get("batch_poll", _POLL))


def _later(seconds: float, what: str) -> Parked:
    return Parked(f"the batch {what}", seconds=max(0.1, seconds), instead=Instead(None))


def _word(job: types.BatchJob) -> str:
    state = str(getattr(job.state, "value", job.state) or "unknown")
    return state.removeprefix("JOB_STATE_").removeprefix("BATCH_STATE_").lower()


def _display(it: dict[str, Any]) -> str:
    return f"gemflow-{it['uuid']}"
