"""Growth: a running task adds tasks to its own flow. Which task speaks, and by which token, its attempt finds in its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from gemflowctl.errors import InvalidInput
from gemflowctl.steps import Body

TASK_VARIABLE: Final = "GEMFLOW_TASK"
TOKEN_VARIABLE: Final = "GEMFLOW_TOKEN"  # noqa: S105 - the name of it


def of_environment(given: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Body:
    """The field `grow` of a submission; what is not given of `task` and `token` is taken from the environment.

    Raises:
        InvalidInput: this is not the program of a task.
    """
    unknown = sorted(set(given) - {"task", "token", "step", "awaits"})
    if unknown:
        raise InvalidInput(f"`{unknown[0]}` is not a field of `grow`", path=f"grow.{unknown[0]}")
    grow = {name: value for name, value in given.items() if value is not None}
    for name, variable in (("task", TASK_VARIABLE), ("token", TOKEN_VARIABLE)):
        if name not in grow:
            if not environment.get(variable):
                raise InvalidInput(f"only a task that runs can add to its flow: {variable} is not set")
            grow[name] = environment[variable]
    for name in ("task", "token"):
        try:
            grow[name] = int(grow[name])
        except (TypeError, ValueError):
            raise InvalidInput(f"{grow[name]!r} is no number", path=f"grow.{name}") from None
    return grow
