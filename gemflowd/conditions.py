"""`when`: expressions in CEL over the dependencies of a task. Checked at submission, evaluated by the engine, once.

CEL terminates, but a macro goes over a whole list, and nested ones over their product: so there may be one of them, and what
it sees is small.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import cel

#: Characters of an expression, and bytes of the results that it sees (docs/protocol.md, "Conditions").
MAX_LENGTH: Final = 2_000
MAX_RESULT_BYTES: Final = 64 * 1024
_MACRO: Final = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(")


class ConditionFailed(Exception):
    """An expression can't be evaluated; the message says why."""


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> cel.Program:
    return cel.compile(expression)


def problem(expression: str) -> str | None:
    """Why an expression is refused; None when it is not."""
    if not 0 < len(expression) <= MAX_LENGTH:
        return f"it must have 1 to {MAX_LENGTH} characters"
    if len(_MACRO.findall(expression)) > 1:
        return "at most one of all, exists, exists_one, map and filter may be in it"
    try:
        program = _compiled(expression)
    except ValueError as error:
        return _first_line(error)
    unknown = sorted(set(program.variables()) - {"deps"})
    if unknown and not _MACRO.search(expression):
        return f"there is no {unknown[0]!r}; it sees `deps` alone"
    return None


def evaluate(expression: str, deps: Mapping[str, Any]) -> bool:
    """Whether it holds.

    Raises:
        ConditionFailed: it can't be told.
    """
    try:
        value = _compiled(expression).execute({"deps": dict(deps)})
    except KeyError as error:
        raise ConditionFailed(f"there is no {error}") from None
    except (RuntimeError, ValueError, TypeError, OverflowError, ArithmeticError) as error:
        raise ConditionFailed(_first_line(error)) from None
    if not isinstance(value, bool):
        raise ConditionFailed(f"it is no boolean but a {type(value).__name__}")
    return value


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:500]
