"""One attempt, from order to outcome: decode, render, call the handler, put what happened into an `ENDED` message."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from gemflowd.handlers.errors import (
    Again,
    AttemptCancelled,
    HandlerError,
    Parked,
    Permanent,
    RateLimited,
    RequestRefused,
)
from gemflowd.handlers.models import to_model, to_plain
from gemflowd.handlers.registry import Handler
from gemflowd.model.attempt import Outcome
from gemflowd.model.errors import Invalid
from gemflowd.model.values import check_value
from gemflowd.templates import TemplateFailed, render
from gemflowd.worker import wire
from gemflowd.worker.context import AsyncContext, Context
from gemflowd.worker.log import Log
from gemflowd.worker.progress import Later, Progress
from gemflowd.worker.requests import Asker, AsyncAsker, Requests
from gemflowd.worker.streams import Streams

#: Characters of a traceback that are kept: its end says most.
_TRACEBACK: Final = 8_000
#: Bytes of what an attempt notes for the next one. More is left out, and so is what nobody could be shown.
MOST_NOTE: Final = 64 * 1024
#: The same of what it says that it used.
MOST_USAGE: Final = 64 * 1024
#: Modules of the handlers that ask MCP servers: they alone see how a server is started, which may be a secret.
_WITH_SERVERS: Final = frozenset({"gemflowd.handlers.mcp.handler", "gemflowd.handlers.gemini.tools.handler"})


@dataclass(slots=True, frozen=True)
class Config:
    """What the daemon tells its workers."""

    settings: Mapping[str, Any]
    grace: float
    max_result_bytes: int
    _shown: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_shown", {key: value for key, value in self.settings.items() if key != "mcp"})

    def shown(self, module: str) -> Mapping[str, Any]:
        """The settings as the handlers of a module see them."""
        return self.settings if module in _WITH_SERVERS else self._shown


@dataclass(slots=True, frozen=True)
class Order:
    """One attempt as it is handed over; the fields of `model.attempt.Start` without the slot."""

    task: int
    token: int
    attempt: int
    flow: int
    id: int | str | None
    type: str
    body: bytes
    inputs: bytes | None
    timeout: float
    devices: tuple[str, ...] | list[str] = ()
    memory_mb: int | None = None
    note: tuple[int, bytes] | list[Any] | None = None


Send = Callable[[list[Any]], None]
AnyContext = Context | AsyncContext


@dataclass(slots=True, frozen=True)
class Surroundings:
    """What all attempts of a worker share.

    Attributes:
        later: does something after some seconds.
        settle: sees to it that what was written past Python's streams is in the attempt's log, too.
    """

    config: Config
    send: Send
    lease: int
    requests: Requests
    streams: Streams
    later: Later
    settle: Callable[[], None] = lambda: None


def prepare(order: Order, around: Surroundings, handler: Handler, log: Log) -> tuple[Any, AnyContext]:
    """The data for the handler, rendered, and its context.

    Raises:
        Permanent: a template can't be rendered, or the data does not fit the model.
    """
    body = msgpack.unpackb(order.body, strict_map_key=False)
    results = {} if order.inputs is None else msgpack.unpackb(order.inputs, strict_map_key=False)
    fields: dict[str, Any] = {
        "task": order.task,
        "flow": order.flow,
        "id": order.id,
        "type": order.type,
        "attempt": order.attempt,
        "token": order.token,
        "timeout": order.timeout,
        "results": results,
        "settings": around.config.shown(handler.info.module),
        "emit": log,
        "memory_mb": order.memory_mb,
        "devices": tuple(order.devices),
        "grace": around.config.grace,
        "pass_fds": (around.lease,),
        "_progress": Progress(order.task, order.token, around.send, around.later),
        "_process_group": lambda group: around.send([wire.GROUP, order.task, order.token, group]),
    }
    if order.note is not None:
        fields["agains"], fields["note"] = order.note[0], msgpack.unpackb(order.note[1], strict_map_key=False)
    context: AnyContext
    if handler.is_coroutine:
        context = AsyncContext(**fields, _ask=AsyncAsker(around.requests, order.task, order.token))
    else:
        context = Context(**fields, _ask=Asker(around.requests, order.task, order.token))
    data = body["data"]
    rendered = order.inputs is not None and body.get("template", True)
    if rendered:
        try:
            data = render(data, results)
        except TemplateFailed as error:
            raise Permanent(str(error), code="template_failed") from None
    if handler.model is not None:
        data = to_model(handler.model, data, strict=not rendered)
    return data, context


def run_sync(
    handler: Handler, order: Order, around: Surroundings, running: Callable[[AnyContext | None], None]
) -> None:
    """Run an attempt on this thread and send its outcome. `running` brackets the time in which it may be interrupted."""
    context: AnyContext | None = None
    begin = time.perf_counter()
    log = around.streams.alone = Log(order.task, order.attempt, around.send)
    try:
        data, context = prepare(order, around, handler, log)
        running(context)
        try:
            if handler.is_coroutine:
                result = asyncio.run(handler.function(data, context))
            else:
                result = handler.function(data, context)
        finally:
            running(None)
        message = ended(order, Outcome.DONE, _result(result, around.config), begin, context)
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome
        message = _outcome_of(order, error, begin, context)
    around.settle()
    _last_words(log, context)
    around.streams.alone = None
    around.send(message)


async def run_async(
    handler: Handler, order: Order, around: Surroundings, running: dict[tuple[int, int], AnyContext]
) -> None:
    """The same in a coroutine worker."""
    context: AnyContext | None = None
    begin = time.perf_counter()
    log = Log(order.task, order.attempt, around.send)
    around.streams.own(log)
    try:
        data, context = prepare(order, around, handler, log)
        running[order.task, order.token] = context
        result = await handler.function(data, context)
        message = ended(order, Outcome.DONE, _result(result, around.config), begin, context)
    except BaseException as error:  # noqa: BLE001 - as above, and its neighbours shall not notice
        message = _outcome_of(order, error, begin, context)
    finally:
        running.pop((order.task, order.token), None)
    _last_words(log, context)
    around.send(message)


def _last_words(log: Log, context: AnyContext | None) -> None:
    """What the attempt has said comes before its outcome."""
    log.close()
    if context is not None and isinstance(context._progress, Progress):
        context._progress.tell()


def _result(result: Any, config: Config) -> bytes:
    """Raises Permanent: the result is too large, or is nothing that MessagePack knows."""
    try:
        try:
            check_value(result, "result")
        except Invalid as error:
            if error.code != "wrong_type":
                raise
            result = to_plain(result)  # a model, or something with one in it
            check_value(result, "result")
        packed: bytes = msgpack.packb(result)
    except Invalid as error:
        raise Permanent(f"the result can't be stored: {error.message} (at {error.path})", code="bad_result") from error
    except Exception as error:
        raise Permanent(f"the result can't be stored: {_text_of(error)[:500]}", code="bad_result") from error
    if len(packed) > config.max_result_bytes:
        message = f"the result has {len(packed)} bytes; the setting max_result_mb allows {config.max_result_bytes}"
        raise Permanent(message, code="result_too_large")
    return packed


def _outcome_of(order: Order, error: BaseException, begin: float, context: AnyContext | None) -> list[Any]:
    record: dict[str, Any] = {"class": type(error).__name__[:200], "code": "error", "message": _text_of(error)}
    retry_after = None
    if isinstance(error, HandlerError):
        record["code"] = str(error.code)[:64]
        if error.instead is not None:
            record["instead"] = {"note": error.instead.note, "bucket": error.instead.bucket}
            if not error.instead.anew:
                record["instead"]["anew"] = False
            if error.instead.tasks:
                record["instead"]["tasks"] = list(error.instead.tasks)
            if error.instead.hold is not None:
                record["instead"]["hold"] = error.instead.hold
            if not _can_be_noted(record["instead"]):
                del record["instead"]
        if error.usage and context is not None:
            with suppress(Exception):  # what can't be added up is left out
                context.usage.update(error.usage)
    else:
        with suppress(Exception):
            record["traceback"] = "".join(traceback.format_exception(error))[-_TRACEBACK:]
    asked = context is None or context.cancelled  # else something inside has cancelled what the handler waited for
    if isinstance(error, AttemptCancelled | asyncio.CancelledError) and asked:
        outcome = Outcome.CANCELLED
        record = {"class": "Cancelled", "code": "cancelled", "message": "the attempt was asked to stop"}
    elif isinstance(error, RateLimited):
        outcome = Outcome.RATE_LIMITED
        if error.quota:
            with suppress(Exception):
                record["quota"] = [
                    {key: str(one[key])[:200] for key in ("id", "value") if key in one} for one in error.quota[:16]
                ]
        with suppress(TypeError, ValueError, OverflowError):  # what is no number is as good as none
            retry_after = None if error.retry_after is None else float(error.retry_after)
    elif isinstance(error, Permanent):
        outcome = Outcome.PERMANENT
    elif isinstance(error, Again):
        outcome = Outcome.AGAIN
    elif isinstance(error, Parked):
        outcome, retry_after = Outcome.PARKED, float(error.seconds)
    elif isinstance(error, RequestRefused) and error.code == "draining":
        outcome = Outcome.LOST  # the daemon's doing: it costs no try, as what is given back at the end of the drain
    else:
        outcome = Outcome.ERROR
    return ended(order, outcome, msgpack.packb(record, unicode_errors="replace"), begin, context, retry_after)


def _can_be_noted(instead: dict[str, Any]) -> bool:
    try:
        check_value(instead, "instead")
        return len(msgpack.packb(instead, unicode_errors="replace")) <= MOST_NOTE
    except Exception:  # noqa: BLE001 - a handler may have put anything there
        return False


def _text_of(error: BaseException) -> str:
    """What an exception says, whatever it does when it is asked."""
    try:
        return str(error)[:_TRACEBACK]
    except Exception:  # noqa: BLE001 - its own defect must not cost the outcome
        return f"({type(error).__name__} without a readable message)"


def defect(order: Order, error: BaseException) -> list[Any]:
    """The outcome of an attempt whose own one could not be told."""
    record = {"class": type(error).__name__[:200], "code": "error", "message": _text_of(error)}
    return ended(order, Outcome.ERROR, msgpack.packb(record, unicode_errors="replace"), time.perf_counter(), None)


def never_began(order: Order) -> list[Any]:
    """The outcome of an attempt that was cancelled before its first step."""
    return _outcome_of(order, AttemptCancelled(), time.perf_counter(), None)


def ended(
    order: Order,
    outcome: Outcome,
    payload: bytes,
    begin: float,
    context: AnyContext | None,
    retry_after: float | None = None,
) -> list[Any]:
    usage = None if context is None else _usage(context)
    seconds = time.perf_counter() - begin
    return [wire.ENDED, order.task, order.token, int(outcome), payload, seconds, retry_after, usage, None]


def _usage(context: AnyContext) -> bytes | None:
    """What a handler says that it used. What can't be stored is left out, and the log says so: it must not cost the result."""
    if not context.usage:
        return None
    kept: dict[str, Any] = {}
    left: list[str] = []
    packed = b""
    try:
        try:
            kept = _stored(dict(context.usage))
        except Exception:  # noqa: BLE001 - a handler may have put anything there: what of it is it?
            for name, value in context.usage.items():
                try:
                    kept |= _stored({name: value})
                except Exception as error:  # noqa: BLE001
                    left.append(_text_of(error)[:200])
        packed = msgpack.packb(kept)
        if len(packed) > MOST_USAGE:
            left, kept = [f"it has {len(packed)} bytes, and may have {MOST_USAGE}"], {}
    except Exception as error:  # noqa: BLE001 - it is no map
        left = [_text_of(error)[:200]]
    if left:
        with suppress(Exception):
            context.log(f"[left out of what this attempt has used: {'; '.join(left[:3])}]")
    return packed if kept else None


def _stored(part: dict[Any, Any]) -> dict[str, Any]:
    """A part of it in plain values. Raises: whatever is wrong with it."""
    plain: dict[str, Any] = msgpack.unpackb(
        msgpack.packb(part, default=str, unicode_errors="replace"), strict_map_key=False
    )
    check_value(plain, "usage")
    return plain
