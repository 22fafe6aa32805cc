"""What a task type is made of, and how the handlers of an installation are found.

A handler is a function with `@task("name")`, sync (it gets a blocking worker for itself) or `async` (it shares a
coroutine worker). Its first argument is the task's data, its second the `Context`. Decorating only attaches a
description to the function; nothing is registered by being imported: `discover` looks at the modules it is told of.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Final, TypeVar

from gemflowd.model.attempt import HandlerInfo, Kind

#: Modules that are always loaded.
BUILT_IN: Final = (
    "gemflowd.handlers.analysis.handler",
    "gemflowd.handlers.basic",
    "gemflowd.handlers.command",
    "gemflowd.handlers.gemini.handler",
    "gemflowd.handlers.tool.handler",
)
ENTRY_POINTS: Final = "gemflow.tasks"
_ATTRIBUTE: Final = "__gemflow_task__"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Handler:
    """A task type with the function that carries it out."""

    info: HandlerInfo
    function: Callable[..., Any]


def task(
    name: str,
    *,
    schema: dict[str, Any] | None = None,
    bucket: str | None = None,
    retries: int | None = None,
    timeout: float | None = None,
    retry_on: dict[str, int] | None = None,
) -> Callable[[F], F]:
    """Describe a function as the handler of the task type `name`.

    Args:
        name: the task type.
        schema: JSON Schema of the data, checked when a task is submitted. None accepts every map.
        bucket: the limit that its tasks share, a format string over the data: `"gemini:{model}"`.
        retries: tries after the first, where a task does not say.
        timeout: seconds for one attempt, where a task does not say.
        retry_on: tries after the first by class or code of the error, before `retries`: `{"ConnectionError": 10}`.
    """

    def describe(function: F) -> F:
        info = HandlerInfo(
            type=name,
            kind=Kind.COROUTINE if inspect.iscoroutinefunction(function) else Kind.BLOCKING,
            schema=schema if schema is not None else {"type": "object"},
            doc=inspect.getdoc(function) or "",
            bucket=bucket,
            retries=retries,
            timeout=timeout,
            retry_on=retry_on or {},
            module=function.__module__,
        )
        setattr(function, _ATTRIBUTE, info)
        return function

    return describe


def handlers_of(module: ModuleType) -> list[Handler]:
    """The handlers that a module defines or imports by name."""
    found = []
    for value in vars(module).values():
        info = getattr(value, _ATTRIBUTE, None)
        if isinstance(info, HandlerInfo):
            found.append(Handler(info, value))
    return found


def discover(modules: Iterable[str]) -> dict[str, Handler]:
    """Load the built-in handlers, those of installed packages (entry points) and those of `modules`, in this order.

    A later one of the same type replaces an earlier one.

    Raises:
        ImportError: a module can't be imported; its own error is the cause.
    """
    names = [*BUILT_IN, *(point.module for point in entry_points(group=ENTRY_POINTS)), *modules]
    found: dict[str, Handler] = {}
    for name in names:
        try:
            module = importlib.import_module(name)
        except Exception as error:
            raise ImportError(f"handler module {name!r} can't be imported: {error}") from error
        for handler in handlers_of(module):
            found[handler.info.type] = handler
    return found
