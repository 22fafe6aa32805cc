"""`submit`: shape, meaning and data of every task are checked here, a piece at a time; the engine stores it whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

from gemflowd import templates
from gemflowd.core.graph import find_cycle
from gemflowd.model import facts
from gemflowd.model.attempt import HandlerInfo
from gemflowd.model.errors import Invalid, Refused
from gemflowd.model.facts import NewDependency, NewTask, Reply, TaskNumber
from gemflowd.model.ids import ID_PATTERN, MAX_NUMBER, is_task_id
from gemflowd.model.lane import LaneKey
from gemflowd.model.refs import NamedTask
from gemflowd.model.states import On
from gemflowd.protocol import messages
from gemflowd.protocol.codec import check_value, pack
from gemflowd.protocol.messages import MAX_CHUNK_TASKS, read
from gemflowd.server.desk import Body, Desk

#: Tasks that are checked before others get their turn on the loop: about 2 ms.
_PIECE: Final = 100
_QUEUE: Final = re.compile(ID_PATTERN)
_NOT_YET: Final = ("when", "expires", "key", "key_ttl", "memory_mb", "resources")
_ON: Final = {on.word: on for on in On}
_MOST_SECONDS: Final = 10 * 365 * 86_400.0


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = read(messages.Submit, body)
    _check_request(request)
    # The chunks of one submission are decided in the order in which they came, also while a large one is being checked.
    lock, users = desk.uploads.get(request.submission) or (asyncio.Lock(), 0)
    desk.uploads[request.submission] = (lock, users + 1)
    try:
        async with lock:
            try:
                fact = await _read_tasks(desk, request, reply)
            except Refused as refused:
                if not request.offset:
                    raise
                # What came before of this flow goes too; the answer comes when it is gone.
                answer = refused
                desk.post(facts.Discard(lambda _: reply(answer), request.submission))
                return
            desk.post(fact)
    finally:
        _, users = desk.uploads.pop(request.submission)
        if users > 1:
            desk.uploads[request.submission] = (lock, users - 1)


def _check_request(request: messages.Submit) -> None:
    try:
        request.submission = str(uuid.UUID(request.submission))
    except ValueError:
        raise Invalid("invalid_value", "must be a UUID of your making", "submission") from None
    if len(request.tasks) > MAX_CHUNK_TASKS:
        raise Invalid("invalid_value", f"at most {MAX_CHUNK_TASKS} tasks in one request; send more in chunks", "tasks")
    if not request.tasks and not (request.complete and request.offset):
        raise Invalid("invalid_value", "a submission needs at least one task", "tasks")
    if not (math.isfinite(request.weight) and 0.001 <= request.weight <= 1000):
        raise Invalid("invalid_value", "must be from 0.001 to 1000", "weight")
    if not 0 <= request.offset <= MAX_NUMBER:
        raise Invalid("invalid_value", "must not be negative", "offset")
    if request.name is not None and not 0 < len(request.name) <= 200:
        raise Invalid("invalid_value", "must have 1 to 200 characters", "name")
    check_value(request.metadata, "metadata")


async def _read_tasks(desk: Desk, request: messages.Submit, reply: Reply) -> facts.Submit:
    shapes: list[messages.Task] = []
    places: dict[str, int] = {}
    digest = hashlib.blake2b(digest_size=16)
    digest.update(_canonical([request.name, request.weight, request.metadata]))
    for index, raw in enumerate(request.tasks):
        path = f"tasks[{index}]"
        shape = read(messages.Task, raw, path)
        if shape.id is not None:
            shape.id = task_id(shape.id, f"{path}.id")
            if shape.id in places:
                raise Invalid("duplicate_id", f"task {places[shape.id]} has the id {shape.id!r} already", f"{path}.id")
            places[shape.id] = index
        shapes.append(shape)
        if index % _PIECE == _PIECE - 1:
            await asyncio.sleep(0)
    tasks = []
    for index, shape in enumerate(shapes):
        # What counts as the same content is what was sent, not what settings made of it.
        check_value(shape.data, f"tasks[{index}].data")
        check_value(shape.metadata, f"tasks[{index}].metadata")
        digest.update(_canonical(request.tasks[index]))
        tasks.append(_task(desk, shape, f"tasks[{index}]", places))
        if index % _PIECE == _PIECE - 1:
            await asyncio.sleep(0)
    await _check_cycles(tasks, shapes)
    metadata = pack(request.metadata) if request.metadata else None
    return facts.Submit(
        reply,
        request.submission,
        request.name,
        metadata,
        request.weight,
        request.offset,
        request.complete,
        digest.digest(),
        tasks,
    )


def _canonical(value: object) -> bytes:
    """The same bytes for the same content, in whatever order a client's language keeps its maps."""
    return json.dumps(value, sort_keys=True, default=_hex).encode("utf-8", "surrogatepass")


def _hex(value: object) -> object:
    return {"$bytes": value.hex()} if isinstance(value, bytes) else repr(value)


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


def _task(desk: Desk, shape: messages.Task, path: str, places: dict[str, int]) -> NewTask:
    for name in _NOT_YET:
        if getattr(shape, name) is not None:
            raise Invalid("not_supported", f"{name} is not carried out by this version yet", f"{path}.{name}")
    task_type, data = _type_and_data(desk, shape, path)
    info = desk.validator.check(task_type, data, path)
    _check_numbers(shape, path)
    deps = tuple(_dependency(dep, f"{path}.deps[{index}]", places) for index, dep in enumerate(shape.deps))
    _no_repeats(deps)
    template = shape.template and bool(deps)
    if template:
        _check_templates(data, f"{path}.data")
    body: Body = {"data": data}
    if shape.metadata:
        body["metadata"] = shape.metadata
    if not template:
        body["template"] = False
    return NewTask(
        id=shape.id,  # type: ignore[arg-type]  # a string since _read_tasks
        type=task_type,
        priority=shape.priority,
        lane=LaneKey(shape.queue, _bucket(info, data), info.kind),
        due=_due(desk, shape),
        timeout=shape.timeout,
        retries=info.retries if shape.retries is None else shape.retries,
        backoff=shape.backoff,
        body=pack(body),
        deps=deps,
    )


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
        return "gemini", desk.personas.expand(data, f"{path}.agent" if shape.agent is not None else path)
    if shape.type is None:
        raise Invalid("missing_field", "the field `type` (or `task`, for a prompt) is required", f"{path}.type")
    if shape.type == "gemini":
        return "gemini", desk.personas.expand(shape.data, f"{path}.data.agent")
    return shape.type, shape.data


def _check_numbers(shape: messages.Task, path: str) -> None:
    if not -32768 <= shape.priority <= 32767:
        raise Invalid("invalid_value", "must be from -32768 to 32767", f"{path}.priority")
    if _QUEUE.fullmatch(shape.queue) is None:
        raise Invalid("invalid_value", "a queue's name has 1 to 128 letters, digits, '_', '.' or '-'", f"{path}.queue")
    if shape.retries is not None and not 0 <= shape.retries <= 1000:
        raise Invalid("invalid_value", "must be from 0 to 1000", f"{path}.retries")
    for name, least, most in (
        ("delay", 0.0, _MOST_SECONDS),
        ("timeout", 0.001, _MOST_SECONDS),
        ("backoff", 0.0, 300.0),
        ("run_at", 0.0, 1e12),
    ):
        value = getattr(shape, name)
        if value is not None and not least <= value <= most:  # NaN is not between anything
            raise Invalid("invalid_value", f"must be from {least:g} to {most:g}", f"{path}.{name}")
    if shape.delay and shape.run_at is not None:
        raise Invalid("invalid_value", "give delay or run_at, not both", f"{path}.run_at")


def _due(desk: Desk, shape: messages.Task) -> float | None:
    if shape.run_at is not None:
        return shape.run_at
    return desk.now() + shape.delay if shape.delay else None


def _dependency(value: object, path: str, places: dict[str, int]) -> NewDependency:
    if isinstance(value, int | str) and not isinstance(value, bool):
        value = {"id": value}
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


def _no_repeats(deps: tuple[NewDependency, ...]) -> None:
    seen = set()
    for dep in deps:
        if dep.target in seen:
            raise Invalid("invalid_value", "this dependency is there twice", dep.path)
        seen.add(dep.target)


def _bucket(info: HandlerInfo, data: Mapping[str, Any]) -> str | None:
    """The limit that the task falls under: the handler's format string over the data."""
    if info.bucket is None:
        return None
    return re.sub(r"\{(\w+)\}", lambda match: str(data.get(match[1], ""))[:200], info.bucket)


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
