"""`when`: expressions in CEL over the dependencies of a task. Checked at submission, evaluated by the engine, once.

Evaluating holds the daemon, so its cost is bounded by what is accepted: an expression is short, goes over no list but that of the
dependencies, and what it sees is small. (A macro over a result, with another look at it inside, is quadratic: seconds for some KiB.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from gemflowd.model.errors import echo

if TYPE_CHECKING:
    import cel

#: Characters of an expression; bytes of the results that it sees, with a macro divided by the number of dependencies; and how many
#: dependencies a task with a condition may have (docs/protocol.md, "Conditions").
MAX_LENGTH: Final = 500
MAX_RESULT_BYTES: Final = 16 * 1024
MAX_DEPENDENCIES: Final = 1_000
_MACRO: Final = re.compile(r"\.\s*(all|exists|exists_one|map|filter)\s*\(")
_OVER_DEPS: Final = re.compile(r"(?<![\w.\])])\s*\bdeps\s*\.\s*(all|exists|exists_one)\s*\(")


class ConditionFailed(Exception):
    """An expression can't be evaluated; the message says why."""


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> cel.Program:
    import cel

    return cel.compile(expression)


def load() -> None:
    """Load what evaluates them. With the command line that it brings it takes 12 MB and a fifth of a second: not for those without
    conditions, and not where others wait meanwhile.

    Raises:
        ImportError: it can't be loaded, which says nothing about any expression.
    """
    import cel  # noqa: F401


def problem(expression: str) -> str | None:
    """Why an expression is refused; None when it is not."""
    if not 0 < len(expression) <= MAX_LENGTH:
        return f"it must have 1 to {MAX_LENGTH} characters"
    if len(_MACRO.findall(expression)) != len(over := _OVER_DEPS.findall(expression)) or len(over) > 1:
        return "of macros only one is taken: deps.all(name, …), deps.exists(name, …) or deps.exists_one(name, …)"
    load()
    try:
        program = _compiled(expression)
    except BaseException as error:  # noqa: BLE001 - as below
        return _first_line(error)
    unknown = sorted(set(program.variables()) - {"deps"})
    if unknown and not _MACRO.search(expression):
        return f"there is no {echo(unknown[0])}; it sees `deps` alone"
    return None


def most_bytes(expression: str, dependencies: int) -> int:
    """Bytes of results that it may see: a macro looks at them once for each dependency."""
    return MAX_RESULT_BYTES // max(1, dependencies) if _MACRO.search(expression) else MAX_RESULT_BYTES


def evaluate(expression: str, deps: Mapping[str, Any]) -> bool:
    """Whether it holds.

    Raises:
        ConditionFailed: it can't be told.
    """
    load()
    try:
        value = _compiled(expression).execute({"deps": dict(deps)})
    except KeyError as error:
        raise ConditionFailed(f"there is no {error}") from None
    except BaseException as error:  # noqa: BLE001 - whatever CEL makes of it, a panic included, is the task's own affair
        raise ConditionFailed(_first_line(error)) from None
    if not isinstance(value, bool):
        raise ConditionFailed(f"it is no boolean but a {type(value).__name__}")
    return value


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]
