"""What a task type is made of, and how the handlers of an installation are found.

A handler is a function with `@task("name")`, sync (it gets a blocking worker for itself) or `async` (it shares a
coroutine worker). Its first argument is the task's data, its second the `Context`. Decorating only attaches a
description to the function; nothing is registered by being imported: `discover` looks at the modules it is told of.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Final, TypeVar

from gemflowd.handlers.models import is_model, schema_of
from gemflowd.model.attempt import HandlerInfo, Kind

#: Modules that are always loaded.
BUILT_IN: Final = (
    "gemflowd.handlers.agent.handler",
    "gemflowd.handlers.analysis.handler",
    "gemflowd.handlers.basic",
    "gemflowd.handlers.command",
    "gemflowd.handlers.gemini.handler",
    "gemflowd.handlers.gemini.tools.handler",
    "gemflowd.handlers.mcp.handler",
    "gemflowd.handlers.memory.handler",
    "gemflowd.handlers.tool.handler",
)
ENTRY_POINTS: Final = "gemflow.tasks"
#: Bytes of a schema as JSON: it goes to the daemon in one packet, and to every client that asks for the catalogue.
MAX_SCHEMA: Final = 64 * 1024
#: Characters of a handler's description.
MAX_DOC: Final = 10_000
_MOST_WORDS: Final = 2_000
_ATTRIBUTE: Final = "__gemflow_task__"

F = TypeVar("F", bound=Callable[..., Any])
Warn = Callable[[str], object]


@dataclass(slots=True)
class Handler:
    """A task type with the function that carries it out."""

    info: HandlerInfo
    function: Callable[..., Any]
    model: type | None = None  # what its data is converted to; None: it gets the map
    is_coroutine: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_coroutine = inspect.iscoroutinefunction(self.function)


def task(
    name: str,
    *,
    input: type | None = None,  # noqa: A002 - the word for it
    schema: dict[str, Any] | None = None,
    bucket: str | None = None,
    retries: int | None = None,
    timeout: float | None = None,
    retry_on: dict[str, int] | None = None,
    isolate: bool = False,
) -> Callable[[F], F]:
    """Describe a function as the handler of the task type `name`.

    Args:
        name: the task type.
        input: model of the data: a dataclass, a msgspec Struct or a pydantic model. Its JSON Schema is checked when a task is
            submitted, and the function gets an instance of it. Where it is left out it is the annotation of the first parameter,
            if that is a model and there is no `schema`.
        schema: JSON Schema of the data in place of a model. Without either every map is accepted.
        bucket: the limit that its tasks share, a format string over the data: `"gemini:{model}"`.
        retries: tries after the first, where a task does not say.
        timeout: seconds for one attempt, where a task does not say.
        retry_on: tries after the first by class or code of the error, before `retries`: `{"ConnectionError": 10}`.
        isolate: an `async` function runs alone in a blocking worker, on a loop of its own: for one that uses much processor or memory.

    Raises:
        TypeError: both `input` and `schema`, or an `input` that is no model.
    """
    if input is not None and schema is not None:
        raise TypeError(f"task type {name!r} has both `input` and `schema`: give one of them")
    if input is not None and not is_model(input):
        raise TypeError(f"the `input` of task type {name!r} is no dataclass, msgspec Struct or pydantic model")

    def describe(function: F) -> F:
        shared = inspect.iscoroutinefunction(function) and not isolate
        info = HandlerInfo(
            type=name,
            kind=Kind.COROUTINE if shared else Kind.BLOCKING,
            schema=schema if schema is not None else {},
            doc=(inspect.getdoc(function) or "")[:MAX_DOC],
            bucket=bucket,
            retries=retries,
            timeout=timeout,
            retry_on=retry_on or {},
            module=function.__module__,
        )
        setattr(function, _ATTRIBUTE, Handler(info, function, input))
        return function

    return describe


def handlers_of(module: ModuleType, warn: Warn = lambda text: None) -> list[Handler]:
    """The handlers that a module defines or imports by name, with their schemas.

    Raises:
        TypeError: no schema can be made of a model, or it is too large.
    """
    found = []
    for value in vars(module).values():
        described = getattr(value, _ATTRIBUTE, None)
        if isinstance(described, Handler):
            found.append(_complete(described, value, warn))
    return found


def discover(modules: Iterable[str], warn: Warn = lambda text: None) -> dict[str, Handler]:
    """Load the built-in handlers, those of installed packages (entry points) and those of `modules`, in this order.

    A later one of the same type replaces an earlier one.

    Args:
        warn: told, as a sentence, of what is probably not meant: a type that is replaced, an annotation that can't be read.

    Raises:
        ImportError: a module can't be imported, or has a handler that can't be described; its own error is the cause.
    """
    found: dict[str, Handler] = {}
    for handler in _all(modules, warn):
        before = found.get(handler.info.type)
        if before is not None and before.function is not handler.function:
            names = _origin(before.info), _origin(handler.info)
            warn(f"the task type {handler.info.type!r} of {names[0]} is replaced by that of {names[1]}")
        found[handler.info.type] = handler
    return found


def _all(modules: Iterable[str], warn: Warn) -> Iterator[Handler]:
    for name in BUILT_IN:
        yield from handlers_of(importlib.import_module(name), warn)
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: (_package(point), point.name)):
        package = _package(point)
        with _named(f"the entry point {point.name} = {point.value!r} of the package {package}"):
            found = _handlers_at(point, warn)
        for handler in found:
            yield replace(handler, info=replace(handler.info, package=package))
    for name in modules:
        with _named(f"handler module {name!r}"):
            found = handlers_of(importlib.import_module(name), warn)
        yield from found


def _handlers_at(point: EntryPoint, warn: Warn) -> list[Handler]:
    """A module has all that it defines, `module:function` is one."""
    value = point.load()
    if isinstance(value, ModuleType):
        return handlers_of(value, warn)
    described = getattr(value, _ATTRIBUTE, None)
    if not isinstance(described, Handler):
        raise TypeError(f"{point.attr} is no function with @task")
    return [_complete(described, value, warn)]


@contextmanager
def _named(what: str) -> Iterator[None]:
    """What goes wrong inside becomes an ImportError that says where."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ImportError(f"{what} can't be imported: {str(error)[:_MOST_WORDS] or type(error).__name__}") from error


def _package(point: EntryPoint) -> str:
    return "?" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _origin(info: HandlerInfo) -> str:
    return f"{info.module} ({info.package})" if info.package else info.module


def _complete(described: Handler, function: Callable[..., Any], warn: Warn) -> Handler:
    """The handler with its model and schema. Not before its module is loaded: annotations may name what comes later in it."""
    info, model = described.info, described.model
    if model is None and not info.schema:
        model = _annotated(info, described.function, warn)
    schema: dict[str, Any] = schema_of(model) if model is not None else info.schema or {"type": "object"}
    size = len(json.dumps(schema))
    if size > MAX_SCHEMA:
        raise TypeError(f"the schema of task type {info.type!r} has {size} bytes; at most {MAX_SCHEMA} are accepted")
    return Handler(replace(info, schema=schema, converts=model is not None), function, model)


def _annotated(info: HandlerInfo, function: Callable[..., Any], warn: Warn) -> type | None:
    """The annotation of the first parameter, if it is a model. Others are not looked at: they may be there for a type checker alone."""
    function = inspect.unwrap(function)
    parameter = next(iter(inspect.signature(function).parameters.values()), None)
    annotation = None if parameter is None else parameter.annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, function.__globals__)  # noqa: S307 - the handler's own code
        except Exception:  # noqa: BLE001 - whatever it is: there is no model then
            warn(
                f"{info.module}: the annotation {annotation!r} of the task type {info.type!r} has no meaning at run time, so its data"
                f" stays a map; import the name outside of TYPE_CHECKING, or give `input`"
            )
            return None
    return annotation if is_model(annotation) else None
