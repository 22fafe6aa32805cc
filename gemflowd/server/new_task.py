"""One task of a request as the engine takes it: its values, its data, its terms; each problem with the field's path."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, NamedTuple

from gemflowd import conditions, templates
from gemflowd.model import calls, facts
from gemflowd.model.attempt import HandlerInfo, Kind
from gemflowd.model.budget import ADDING
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import NewDependency, NewTask
from gemflowd.model.ids import ID_PATTERN
from gemflowd.model.lane import GPU, LaneKey, resource_key
from gemflowd.protocol import messages
from gemflowd.protocol.codec import check_value, pack
from gemflowd.protocol.messages import read
from gemflowd.protocol.moments import parse_moment
from gemflowd.server import model_calls
from gemflowd.server.dependencies import task_id
from gemflowd.server.desk import Body, Desk
from gemflowd.server.wishes import read_budget

_QUEUE: Final = re.compile(ID_PATTERN)
_MOST_SECONDS: Final = 10 * 365 * 86_400.0
#: MB: a petabyte.
_MOST_MEMORY: Final = 1 << 30
_EMPTY: Final = messages.Task()
#: Types whose data may name a persona; and what the tasks of a conversation with tools take over.
_OF_PERSONAS: Final = frozenset({"gemini", "gemini.tools", "gemini.count"})
_OF_HOPS: Final = ("priority", "queue", "timeout", "retries", "retry_on", "backoff")


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


Known = dict[tuple[Any, ...], _Terms]


def new_task(
    desk: Desk,
    shape: messages.Task,
    path: str,
    deps: tuple[NewDependency, ...],
    known: Known,
    *,
    alone: bool,
    many: bool,
) -> NewTask:
    task_type, data = _type_and_data(desk, shape, path)
    if shape.budget is not None and task_type in ADDING:
        what = "a task with `tools`" if task_type == "gemini.tools" else f"a task of the type `{task_type}`"
        raise Invalid("invalid_value", f"{what} is many: give the budget to its flow", f"{path}.budget")
    if task_type in model_calls.TYPES:
        vertex = desk.configuration.vertex()
        data = model_calls.written_out(data, shape.priority, desk.now(), f"{path}.data", many=many, vertex=vertex)
    template = shape.template and bool(deps)
    info = desk.validator.check(task_type, data, path, templates=template)
    if task_type in calls.OF_A_MODEL:
        data = calls.with_plain_models(data)
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
    check_values(shape, path)
    if "deadline" in shape.data:
        message = "of several runs each would have the deadline of the first"
        raise Invalid("not_supported", message, f"{path}.data.deadline")
    budget = None if shape.budget is None else read_budget(shape.budget, f"{path}.budget")
    shape.budget = None  # a task with tools may have none of its own
    return replace(new_task(desk, shape, path, (), {}, alone=True, many=False), budget=budget)


def check_values(shape: messages.Task, path: str) -> None:
    if shape.data:
        check_value(shape.data, f"{path}.data")
    if shape.metadata:
        check_value(shape.metadata, f"{path}.metadata")


def _terms(
    desk: Desk, shape: messages.Task, path: str, info: HandlerInfo, limits: tuple[str | None, str], known: Known
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


def _limits(info: HandlerInfo, data: Mapping[str, Any]) -> tuple[str | None, str]:
    """The limit that the task falls under; and all that it may, where it names other models, a line each."""
    if info.bucket is None:
        return None, ""
    models = data.get("fallback") if info.type == "gemini" else None
    if not models:
        return _bucket(info.bucket, data), ""
    # Each once: a model that is named twice is no other one.
    names = list(dict.fromkeys(_bucket(info.bucket, {**data, "model": one}) for one in [data.get("model"), *models]))
    return names[0], "" if len(names) == 1 or any("{{" in name or "\n" in name for name in names) else "\n".join(names)


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
