"""`submit`: shape, meaning and data of every task are checked here, a piece at a time; the engine stores it whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import re
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from gemflowd import conditions, templates
from gemflowd.core.graph import find_cycle
from gemflowd.model import facts
from gemflowd.model.attempt import HandlerInfo, Kind
from gemflowd.model.errors import Invalid, Refused, echo
from gemflowd.model.facts import NewDependency, NewTask, Reply, Speaker, TaskNumber
from gemflowd.model.ids import ID_PATTERN, MAX_NUMBER, is_task_id
from gemflowd.model.lane import GPU, LaneKey, resource_key
from gemflowd.model.refs import NamedTask
from gemflowd.model.states import On
from gemflowd.model.tiers import MANY
from gemflowd.protocol import messages
from gemflowd.protocol.codec import check_value, pack
from gemflowd.protocol.messages import MAX_CHUNK_TASKS, read
from gemflowd.protocol.moments import parse_moment
from gemflowd.server import model_calls
from gemflowd.server.desk import Body, Desk, Upload
from gemflowd.server.wishes import read_budget

log = logging.getLogger("gemflow.server")

#: Tasks that are checked before others get their turn on the loop: about 2 ms.
_PIECE: Final = 100
_QUEUE: Final = re.compile(ID_PATTERN)
#: Dependencies that are read before others get their turn on the loop: about 2 ms.
_DEPENDENCIES: Final = 1_000
_ON: Final = {on.word: on for on in On}
_MOST_SECONDS: Final = 10 * 365 * 86_400.0
#: MB: a petabyte.
_MOST_MEMORY: Final = 1 << 30
_MOST_ERRORS: Final = 1_000_000_000
_EMPTY: Final = messages.Task()
#: Types whose data may name a persona; and what the tasks of a conversation with tools take over.
_OF_PERSONAS: Final = frozenset({"gemini", "gemini.tools", "gemini.count"})
_OF_HOPS: Final = ("priority", "queue", "timeout", "retries", "retry_on", "backoff")


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
    tasks: list[NewTask] = []
    alone = len(shapes) == 1 and request.complete and not request.offset and request.grow is None
    many = request.offset + len(shapes) >= MANY
    known: _Known = {}
    for start in range(0, len(shapes), _PIECE):
        for index, shape in enumerate(shapes[start : start + _PIECE], start):
            path = f"tasks[{index}]"
            _check_values(shape, path)
            deps = await _dependencies(shape.deps, f"{path}.deps", places) if shape.deps else ()
            tasks.append(_task(desk, shape, path, deps, known, alone=alone, many=many))
        # What counts as the same content is what was sent, not what settings made of it.
        digest.update(_canonical(request.tasks[start : start + _PIECE]))
        await asyncio.sleep(0)
    await _check_cycles(tasks, shapes)
    if sum(len(task.deps) for task in tasks) > facts.MOST_EDGES:
        if before is not None:
            await before  # what it names may be in the chunk that is on its way
        tasks = await _looked_up(desk, request, tasks)
    return _fact(request, reply, digest.digest(), tasks)


def _canonical(value: object) -> bytes:
    """The same bytes for the same content, in whatever order a client's language keeps its maps."""
    return msgspec.msgpack.encode(value, order="sorted")


async def _check_cycles(tasks: list[NewTask], shapes: list[messages.Task]) -> None:
    if not any(task.deps for task in tasks):
        return
    parents = [[d.target for d in task.deps if isinstance(d.target, int)] for task in tasks]
    for found in find_cycle(parents):
        if found:
            names = [str(shapes[index].id) for index in [*found, found[0]]]
            shown = " → ".join(names if len(names) <= 10 else [*names[:9], "…"])
            raise Invalid("cycle", f"these tasks wait for each other: {shown}", f"tasks[{found[0]}].deps")
        await asyncio.sleep(0)


def task_id(value: int | str, path: str) -> str:
    text = str(value)
    if not is_task_id(text):
        raise Invalid("invalid_value", "an id has 1 to 128 letters, digits, '_', '.' or '-', or is an integer", path)
    return text


async def _dependencies(values: list[Any], path: str, places: dict[str, int]) -> tuple[NewDependency, ...]:
    found: list[NewDependency] = []
    for index, value in enumerate(values):
        found.append(_dependency(value, f"{path}[{index}]", places))
        if index % _DEPENDENCIES == _DEPENDENCIES - 1:
            await asyncio.sleep(0)
    _no_repeats(found)
    return tuple(found)


async def _looked_up(desk: Desk, request: messages.Submit, tasks: list[NewTask]) -> list[NewTask]:
    """The tasks with every dependency as a place in this request or as a task's number.

    The engine does not look for names when there are very many: it would hold everything up meanwhile.
    """
    names, elsewhere, numbers = set(), set(), set()
    for target in (dependency.target for task in tasks for dependency in task.deps):
        if isinstance(target, str):
            names.add(target)
        elif isinstance(target, NamedTask):
            elsewhere.add((target.flow, target.id))
        elif isinstance(target, TaskNumber):
            numbers.add(target.number)
    grow = None if request.grow is None else request.grow.task
    found = await desk.ask(desk.questions.locate, request.submission, grow, list(names), list(elsewhere), list(numbers))
    known: dict[Any, int] = {
        **found["names"],
        **{NamedTask(flow, name): number for (flow, name), number in found["elsewhere"].items()},
        **{TaskNumber(number): number for number in found["numbers"]},
    }
    looked_up = []
    edges = 0
    for task in tasks:
        deps = []
        for dependency in task.deps:
            target = dependency.target
            if not isinstance(target, int):
                number = known.get(target)
                if number is None:
                    message = "there is no such task (a dependency must be in the same or an earlier chunk)"
                    raise Invalid("unknown_dependency", message, dependency.path)
                target = TaskNumber(number)
            deps.append(NewDependency(target, dependency.on, dependency.path))
            edges += 1
            if edges % _DEPENDENCIES == 0:
                await asyncio.sleep(0)
        looked_up.append(replace(task, deps=tuple(deps)))
    return looked_up


def _check_values(shape: messages.Task, path: str) -> None:
    if shape.data:
        check_value(shape.data, f"{path}.data")
    if shape.metadata:
        check_value(shape.metadata, f"{path}.metadata")


class _Terms(NamedTuple):
    """What a task says beside its content, checked, in the engine's words."""

    lane: LaneKey
    run_at: float | None
    expires: float | None
    rules: str | None


#: The fields that terms are made of. The tasks of a request mostly have the same, so they are checked once and not for each.
_SAID: Final = attrgetter(
    "type", "priority", "queue", "delay", "run_at", "expires", "expires_in", "timeout", "retries", "backoff", "key_ttl",
    "estimate", "memory_mb",
)  # fmt: skip
_Known = dict[tuple[Any, ...], _Terms]


def _terms(
    desk: Desk, shape: messages.Task, path: str, info: HandlerInfo, limits: tuple[str | None, str], known: _Known
) -> _Terms:
    if shape.resources or shape.retry_on:
        return _new_terms(desk, shape, path, info, limits)
    said = (info.type, limits, *_SAID(shape))
    terms = known.get(said)
    if terms is None:
        terms = known[said] = _new_terms(desk, shape, path, info, limits)
    return terms


def _new_terms(
    desk: Desk, shape: messages.Task, path: str, info: HandlerInfo, limits: tuple[str | None, str]
) -> _Terms:
    _check_numbers(shape, path)
    if shape.memory_mb is not None:
        desk.configuration.check_cap(shape.memory_mb, f"{path}.memory_mb")
    # With a cap or a GPU of its own nobody else is in its worker: memory and CUDA_VISIBLE_DEVICES are a process's.
    kind = info.kind if shape.memory_mb is None and GPU not in shape.resources else Kind.BLOCKING
    return _Terms(
        LaneKey(shape.queue, limits[0], kind, resources=_resources(desk, shape, path), others=limits[1]),
        _moment(shape.run_at, f"{path}.run_at"),
        _moment(shape.expires, f"{path}.expires"),
        _rules(info, shape, path),
    )


def _task(
    desk: Desk,
    shape: messages.Task,
    path: str,
    deps: tuple[NewDependency, ...],
    known: _Known,
    *,
    alone: bool,
    many: bool,
) -> NewTask:
    task_type, data = _type_and_data(desk, shape, path)
    if task_type in model_calls.TYPES:
        vertex = desk.configuration.vertex()
        data = model_calls.written_out(data, shape.priority, desk.now(), f"{path}.data", many=many, vertex=vertex)
    template = shape.template and bool(deps)
    info = desk.validator.check(task_type, data, path, templates=template)
    terms = _terms(desk, shape, path, info, _limits(info, data), known)
    if template:
        _check_templates(data, f"{path}.data")
    body: Body = {"data": data}
    if shape.metadata:
        body["metadata"] = shape.metadata
    if not template:
        body["template"] = False
    return NewTask(
        id=None if shape.id is None else str(shape.id),
        type=task_type,
        priority=shape.priority,
        lane=terms.lane,
        timeout=shape.timeout,
        retries=info.retries if shape.retries is None else shape.retries,
        backoff=shape.backoff,
        body=pack(body),
        deps=deps,
        delay=shape.delay or None,
        run_at=terms.run_at,
        expires_in=shape.expires_in,
        expires=terms.expires,
        rules=terms.rules,
        when=None if shape.when is None else _condition(shape, shape.when, path),
        key=_key(shape, path, alone=alone),
        estimate=shape.estimate,
        memory_mb=shape.memory_mb,
        integer_id=isinstance(shape.id, int),
        budget=None if shape.budget is None else read_budget(shape.budget, f"{path}.budget"),
    )


def read_alone(desk: Desk, raw: object, path: str, without: Sequence[str]) -> NewTask:
    """A task that is no part of a submission, checked as one that is. Its budget is that of the flow of each run.

    Args:
        without: fields that make no sense for it.

    Raises:
        Refused: with the field's path.
    """
    shape = read(messages.Task, raw, path)
    for name in without:
        if getattr(shape, name) != getattr(_EMPTY, name):
            raise Invalid("invalid_value", f"a task here has no `{name}`", f"{path}.{name}")
    if shape.id is not None:
        task_id(shape.id, f"{path}.id")
    _check_values(shape, path)
    if "deadline" in shape.data:
        message = "of several runs each would have the deadline of the first"
        raise Invalid("not_supported", message, f"{path}.data.deadline")
    budget = None if shape.budget is None else read_budget(shape.budget, f"{path}.budget")
    shape.budget = None  # a task with tools may have none of its own
    return replace(_task(desk, shape, path, (), {}, alone=True, many=False), budget=budget)


def _type_and_data(desk: Desk, shape: messages.Task, path: str) -> tuple[str, Body]:
    """The type, and the data with its short form, persona and model written out."""
    if shape.task is not None or shape.agent is not None:
        if shape.type not in (None, "gemini"):
            raise Invalid("invalid_value", "`task` and `agent` are the short form of a gemini task", f"{path}.type")
        if shape.task is None:
            raise Invalid("missing_field", "`agent` needs a `task`, or use type gemini with data.agent", f"{path}.task")
        if shape.data:
            raise Invalid("invalid_value", "the short form has `task` in place of `data`", f"{path}.data")
        data: Body = {"prompt": shape.task}
        if shape.agent is not None:
            data["agent"] = shape.agent
        return _with_tools(
            shape, desk.personas.expand(data, f"{path}.agent" if shape.agent is not None else path), path
        )
    if shape.type is None:
        raise Invalid("missing_field", "the field `type` (or `task`, for a prompt) is required", f"{path}.type")
    if shape.type in _OF_PERSONAS:
        data = desk.personas.expand(shape.data, f"{path}.data.agent")
        if shape.type != "gemini.count":
            return _with_tools(shape, data, path)
        if "tools" not in shape.data:  # a persona's; counting needs none
            data.pop("tools", None)
        return shape.type, data
    return shape.type, shape.data


def _with_tools(shape: messages.Task, data: Body, path: str) -> tuple[str, Body]:
    """A question to a model that may use tools is a conversation of several tasks, which are submitted with what its own says."""
    if not data.get("tools"):
        return "gemini", data
    if shape.budget is not None:
        raise Invalid("invalid_value", "a task with `tools` is many: give the budget to its flow", f"{path}.budget")
    terms = {name: getattr(shape, name) for name in _OF_HOPS if getattr(shape, name) != getattr(_EMPTY, name)}
    if terms and isinstance(data.get("hop"), dict | None):
        data["hop"] = {**terms, **(data.get("hop") or {})}
    return "gemini.tools", data


def check_priority(value: int, path: str) -> None:
    """Raises: Invalid."""
    if not -32768 <= value <= 32767:
        raise Invalid("invalid_value", "must be from -32768 to 32767", path)


def check_queue(name: str, path: str) -> None:
    """Raises: Invalid."""
    if _QUEUE.fullmatch(name) is None:
        raise Invalid("invalid_value", "a queue's name has 1 to 128 letters, digits, '_', '.' or '-'", path)


def _check_numbers(shape: messages.Task, path: str) -> None:
    check_priority(shape.priority, f"{path}.priority")
    check_queue(shape.queue, f"{path}.queue")
    if shape.retries is not None and not 0 <= shape.retries <= 1000:
        raise Invalid("invalid_value", "must be from 0 to 1000", f"{path}.retries")
    for name, least, most in (
        ("delay", 0.0, _MOST_SECONDS),
        ("expires_in", 0.001, _MOST_SECONDS),
        ("timeout", 0.001, _MOST_SECONDS),
        ("key_ttl", 0.001, _MOST_SECONDS),
        ("estimate", 0.0, _MOST_SECONDS),
        ("backoff", 0.0, 300.0),
    ):
        value = getattr(shape, name)
        if value is not None and not least <= value <= most:  # NaN is not between anything
            raise Invalid("invalid_value", f"must be from {least:g} to {most:g}", f"{path}.{name}")
    if shape.memory_mb is not None and not 1 <= shape.memory_mb <= _MOST_MEMORY:
        raise Invalid("invalid_value", f"must be from 1 to {_MOST_MEMORY}", f"{path}.memory_mb")
    if shape.delay and shape.run_at is not None:
        raise Invalid("invalid_value", "give delay or run_at, not both", f"{path}.run_at")
    if shape.expires_in is not None and shape.expires is not None:
        raise Invalid("invalid_value", "give expires or expires_in, not both", f"{path}.expires")


def _moment(value: float | str | None, path: str) -> float | None:
    """Raises: Invalid: it is no moment between the epoch and the year 33658."""
    if value is None:
        return None
    try:
        moment = parse_moment(value)
    except ValueError as error:
        raise Invalid("invalid_value", str(error), path) from None
    if not 0 <= moment <= 1e12:
        raise Invalid("invalid_value", "must be from 0 to 1e+12", path)
    return moment


def _resources(desk: Desk, shape: messages.Task, path: str) -> str:
    if not shape.resources:
        return ""
    total = desk.configuration.resources()
    for name, amount in shape.resources.items():
        where = f"{path}.resources.{name[:200]}"
        if name not in total:
            known = ", ".join(total) or "none"
            raise Invalid("invalid_value", f"there is no such resource; the setting `resources` has: {known}", where)
        if name == GPU and amount > 1 and not amount.is_integer():
            message = "more than 1 must be a whole number: a task has whole devices, or a share of one"
            raise Invalid("invalid_value", message, where)
        if not 0 < amount <= total[name]:
            raise Invalid(
                "invalid_value", f"must be more than 0, and at most the {total[name]:g} that there are", where
            )
    return resource_key(shape.resources)


def _rules(info: HandlerInfo, shape: messages.Task, path: str) -> str | None:
    """Retries by class of error, the task's over the handler's, as they are stored."""
    for name, retries in shape.retry_on.items():
        if not 0 <= retries <= 1000 or not 0 < len(name) <= 200:
            message = "a class or code of 1 to 200 characters, and from 0 to 1000 tries after the first"
            raise Invalid("invalid_value", message, f"{path}.retry_on.{name[:200]}")
    if len(shape.retry_on) > 50:
        raise Invalid("invalid_value", "at most 50 classes", f"{path}.retry_on")
    merged = {**info.retry_on, **shape.retry_on}
    return json.dumps(merged) if merged else None


def _condition(shape: messages.Task, when: str, path: str) -> str:
    if not shape.deps:
        raise Invalid("invalid_value", "a condition is about dependencies, and there are none", f"{path}.when")
    if len(shape.deps) > conditions.MAX_DEPENDENCIES:
        message = f"a task with a condition has at most {conditions.MAX_DEPENDENCIES} dependencies"
        raise Invalid("invalid_value", message, f"{path}.when")
    problem = conditions.problem(when)
    if problem is not None:
        raise Invalid("invalid_value", problem, f"{path}.when")
    return when


def _key(shape: messages.Task, path: str, *, alone: bool) -> facts.UniqueKey | None:
    if shape.key is None:
        for name in ("key_ttl", "key_conflict"):
            if getattr(shape, name) is not None:
                raise Invalid("invalid_value", "goes with `key`, and there is none", f"{path}.{name}")
        return None
    if not 0 < len(shape.key) <= 200:
        raise Invalid("invalid_value", "must have 1 to 200 characters", f"{path}.key")
    conflict = ("return" if alone else "reject") if shape.key_conflict is None else shape.key_conflict
    if conflict not in ("return", "reject", "replace"):
        raise Invalid("invalid_value", "must be return, reject or replace", f"{path}.key_conflict")
    if conflict != "reject" and not alone:
        raise Invalid("invalid_value", "in a submission of several tasks it must be reject", f"{path}.key_conflict")
    return facts.UniqueKey(shape.key, shape.key_ttl, conflict)


def _dependency(value: object, path: str, places: dict[str, int]) -> NewDependency:
    if isinstance(value, int | str) and not isinstance(value, bool):
        name = task_id(value, path)
        return NewDependency(places.get(name, name), On.SUCCESS, path)
    dep = read(messages.Dep, value, path)
    on = _ON.get(dep.on)
    if on is None:
        raise Invalid("invalid_value", f"must be one of {', '.join(_ON)}", f"{path}.on")
    if dep.number is not None:
        if dep.id is not None or dep.flow is not None:
            raise Invalid("invalid_value", "give a number, or an id (of a flow)", path)
        if not 0 < dep.number <= MAX_NUMBER:
            raise Invalid("invalid_value", "must be a task's number", f"{path}.number")
        return NewDependency(TaskNumber(dep.number), on, path)
    if dep.id is None:
        raise Invalid("missing_field", "the field `id` or `number` is required", f"{path}.id")
    name = task_id(dep.id, f"{path}.id")
    if dep.flow is not None:
        if not 0 < dep.flow <= MAX_NUMBER:
            raise Invalid("invalid_value", "must be a flow's number", f"{path}.flow")
        return NewDependency(NamedTask(dep.flow, name), on, path)
    return NewDependency(places.get(name, name), on, path)


def _no_repeats(deps: list[NewDependency]) -> None:
    seen = set()
    for dep in deps:
        if dep.target in seen:
            raise Invalid("invalid_value", "this dependency is there twice", dep.path)
        seen.add(dep.target)


def _limits(info: HandlerInfo, data: Mapping[str, Any]) -> tuple[str | None, str]:
    """The limit that the task falls under; and all that it may, where it names other models, a line each."""
    if info.bucket is None:
        return None, ""
    models = data.get("fallback") if info.type == "gemini" else None
    if not models:
        return _bucket(info.bucket, data), ""
    names = [_bucket(info.bucket, {**data, "model": model}) for model in [data.get("model"), *models]]
    return names[0], "" if any("{{" in name or "\n" in name for name in names) else "\n".join(names)


def _bucket(name: str, data: Mapping[str, Any]) -> str:
    """The limit that the task falls under: the handler's format string over the data."""
    return re.sub(r"\{(\w+)\}", lambda match: str(data.get(match[1], ""))[:200], name)


def _check_templates(value: object, path: str) -> None:
    if isinstance(value, str):
        if templates.has_template(value) and (problem := templates.problem(value)) is not None:
            raise Invalid("invalid_template", f"{problem} (say `template: false` if it is none)", path)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_templates(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_templates(item, f"{path}[{index}]")
