"""`submit`: shape, meaning and data of every task are checked here, a piece at a time; the engine stores it whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import uuid
from collections.abc import Awaitable
from typing import Final

import msgspec

from gemflowd import conditions
from gemflowd.model import facts
from gemflowd.model.errors import Invalid, Refused, echo
from gemflowd.model.facts import NewTask, Reply, Speaker
from gemflowd.model.ids import MAX_NUMBER
from gemflowd.model.tiers import MANY
from gemflowd.protocol import messages
from gemflowd.protocol.codec import check_value, pack
from gemflowd.protocol.messages import MAX_CHUNK_TASKS, read
from gemflowd.server.dependencies import check_cycles, looked_up, read_dependencies, task_id
from gemflowd.server.desk import Body, Desk, Upload
from gemflowd.server.new_task import Known, check_values, new_task
from gemflowd.server.wishes import read_budget

log = logging.getLogger("gemflow.server")

#: Tasks that are checked before others get their turn on the loop: about 2 ms.
_PIECE: Final = 100
_MOST_ERRORS: Final = 1_000_000_000


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = read(messages.Submit, body)
    _check_request(request)
    # The chunks of one submission are decided in the order in which they came, also while a large one is being checked. The next
    # is handed on when the one before is stored: who sends many at once does not keep all others waiting behind them.
    upload = desk.uploads.setdefault(request.submission, Upload())
    upload.users += 1

    def answered(result: Body | Refused) -> None:
        upload.users -= 1
        if not upload.users:
            desk.uploads.pop(request.submission, None)
        reply(result)

    async with upload.lock:
        before, stored = upload.stored, desk.loop.create_future()
        upload.stored = stored

        def settled(result: Body | Refused) -> None:
            stored.set_result(None)
            answered(result)

        try:
            fact = await _read(desk, request, settled, before)
            if before is not None:
                await before
        except Refused as refused:
            if not request.offset or request.stream:
                settled(refused)
                return
            # What came before of this flow goes too; the answer comes when it is gone.
            answer = refused
            desk.post(facts.Discard(lambda _: settled(answer), request.submission))
            return
        except BaseException:
            stored.set_result(None)
            raise
        desk.post(fact)


def grow(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> Awaitable[None]:
    """A running attempt submits: always to its own flow, whatever task and token it names."""
    wish = body.get("grow")
    if wish is not None and not isinstance(wish, dict):
        raise Invalid("wrong_type", "must be a map", "grow")
    return handle(desk, {**body, "grow": {**(wish or {}), "task": speaker.task, "token": speaker.token}}, reply)


def _check_request(request: messages.Submit) -> None:
    try:
        request.submission = str(uuid.UUID(request.submission))
    except ValueError:
        raise Invalid("invalid_value", "must be a UUID of your making", "submission") from None
    if len(request.tasks) > MAX_CHUNK_TASKS:
        raise Invalid("invalid_value", f"at most {MAX_CHUNK_TASKS} tasks in one request; send more in chunks", "tasks")
    if not request.tasks and not (request.complete and request.offset):
        raise Invalid("invalid_value", "a submission needs at least one task", "tasks")
    _check_ways(request)
    if not (math.isfinite(request.weight) and 0.001 <= request.weight <= 1000):
        raise Invalid("invalid_value", "must be from 0.001 to 1000", "weight")
    if not 0 <= request.offset <= MAX_NUMBER:
        raise Invalid("invalid_value", "must not be negative", "offset")
    if request.name is not None and not 0 < len(request.name) <= 200:
        raise Invalid("invalid_value", "must have 1 to 200 characters", "name")
    check_value(request.metadata, "metadata")
    if request.budget is not None:
        read_budget(request.budget, "budget")


def _check_ways(request: messages.Submit) -> None:
    """What goes together: chunks, streaming, order, growth."""
    if request.order not in ("fair", "critical-path"):
        raise Invalid("invalid_value", "must be fair or critical-path", "order")
    if request.order == "critical-path" and request.stream:
        message = "does not go together with `stream`: the whole flow must be known before anything of it starts"
        raise Invalid("invalid_value", message, "order")
    if request.max_errors is not None and not 1 <= request.max_errors <= _MOST_ERRORS:
        raise Invalid("invalid_value", f"must be from 1 to {_MOST_ERRORS}", "max_errors")
    grow = request.grow
    if grow is None:
        return
    for name, wrong in (
        ("offset", request.offset != 0),
        ("complete", not request.complete),
        ("stream", request.stream),
        ("name", request.name is not None),
        ("order", request.order != "fair"),
        ("budget", request.budget is not None),
        ("max_errors", request.max_errors is not None),
    ):
        if wrong:
            raise Invalid("invalid_value", "does not go together with `grow`", name)
    if not (0 < grow.task <= MAX_NUMBER and 0 < grow.token <= MAX_NUMBER):
        raise Invalid("invalid_value", "needs the number and the token of the running task", "grow")
    if grow.step is not None and not 0 < len(grow.step) <= 64:
        raise Invalid("invalid_value", "must have 1 to 64 characters", "grow.step")


async def _read(
    desk: Desk, request: messages.Submit, reply: Reply, before: asyncio.Future[None] | None
) -> facts.Submit:
    """The request as the engine takes it. A repeat of what is stored is one, also when it would be refused today: its type may be
    gone meanwhile, or a setting another one.

    Raises:
        Refused: for its content.
    """
    try:
        return await _read_tasks(desk, request, reply, before)
    except Refused as refused:
        if before is not None:
            await before
        digest = await _digest(request)
        if digest is None or not await desk.ask(
            desk.questions.repeats, request.submission, request.offset, len(request.tasks), request.complete, digest
        ):
            raise
        log.info("submission %s is repeated, and would be refused today: %s", request.submission, refused)
        return _fact(request, reply, digest, [], repeats=len(request.tasks))


async def _digest(request: messages.Submit) -> bytes | None:
    """Of all that was sent; None where that is nothing that can ever have been stored."""
    digest = _digest_of_flow(request)
    try:
        for start in range(0, len(request.tasks), _PIECE):
            digest.update(_canonical(request.tasks[start : start + _PIECE]))
            await asyncio.sleep(0)
    except (TypeError, ValueError, RecursionError):
        return None
    return digest.digest()


def _digest_of_flow(request: messages.Submit) -> hashlib.blake2b:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(_canonical([request.name, request.weight, request.metadata]))
    if request.order != "fair" or request.stream:
        digest.update(_canonical([request.order, request.stream]))
    if request.budget is not None:
        digest.update(_canonical(["budget", request.budget.money, request.budget.tokens, request.budget.action]))
    if request.max_errors is not None:
        digest.update(_canonical({"max_errors": request.max_errors}))
    return digest


def _fact(
    request: messages.Submit, reply: Reply, digest: bytes, tasks: list[NewTask], repeats: int | None = None
) -> facts.Submit:
    return facts.Submit(
        reply,
        request.submission,
        request.name,
        pack(request.metadata) if request.metadata else None,
        request.weight,
        request.offset,
        request.complete,
        digest,
        tasks,
        stream=request.stream,
        critical_path=request.order == "critical-path",
        grow=None if request.grow is None else facts.Grow(request.grow.task, request.grow.token, request.grow.step),
        max_errors=request.max_errors,
        repeats=repeats,
        budget=None if request.budget is None else read_budget(request.budget, "budget"),
        task_budgets=any(task.budget is not None for task in tasks),
    )


async def _read_tasks(
    desk: Desk, request: messages.Submit, reply: Reply, before: asyncio.Future[None] | None
) -> facts.Submit:
    shapes: list[messages.Task] = []
    places: dict[str, int] = {}
    digest = _digest_of_flow(request)
    for index, raw in enumerate(request.tasks):
        path = f"tasks[{index}]"
        shape = read(messages.Task, raw, path)
        if shape.id is not None:
            name = task_id(shape.id, f"{path}.id")
            if name in places:
                raise Invalid("duplicate_id", f"task {places[name]} has the id {echo(name)} already", f"{path}.id")
            places[name] = index
        shapes.append(shape)
        if index % _PIECE == _PIECE - 1:
            await asyncio.sleep(0)
    if any(shape.when is not None for shape in shapes):
        await asyncio.to_thread(conditions.load)
    tasks: list[NewTask] = []
    alone = len(shapes) == 1 and request.complete and not request.offset and request.grow is None
    many = request.offset + len(shapes) >= MANY
    known: Known = {}
    for start in range(0, len(shapes), _PIECE):
        for index, shape in enumerate(shapes[start : start + _PIECE], start):
            path = f"tasks[{index}]"
            check_values(shape, path)
            deps = await read_dependencies(shape.deps, f"{path}.deps", places) if shape.deps else ()
            tasks.append(new_task(desk, shape, path, deps, known, alone=alone, many=many))
        # What counts as the same content is what was sent, not what settings made of it.
        digest.update(_canonical(request.tasks[start : start + _PIECE]))
        await asyncio.sleep(0)
    await check_cycles(tasks, shapes)
    if sum(len(task.deps) for task in tasks) > facts.MOST_EDGES:
        if before is not None:
            await before  # what it names may be in the chunk that is on its way
        tasks = await looked_up(desk, request, tasks)
    return _fact(request, reply, digest.digest(), tasks)


def _canonical(value: object) -> bytes:
    """The same bytes for the same content, in whatever order a client's language keeps its maps."""
    return msgspec.msgpack.encode(value, order="sorted")
