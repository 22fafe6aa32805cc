"""What a task came to, as an object. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gemflowctl.errors import TaskFailed


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task did not succeed.

    Attributes:
        kind: the class of the failure (`class` on the wire), such as `permanent` or `timeout`.
        code: a stable word.
        message: a sentence.
    """

    kind: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """One line of `results`.

    Attributes:
        number: the task's number; `id` is your own name for it, or None.
        flow: the flow's number.
        ok: whether it succeeded; then `value` is what the handler returned, else `error` says why.
        attempts: how often it was started.
        seconds: how long its last attempt ran.
        line: the whole line as the daemon sent it.
    """

    number: int
    id: str | int | None
    flow: int | None
    type: str
    state: str
    ok: bool
    value: Any
    error: TaskError | None
    attempts: int
    seconds: float | None
    line: dict[str, Any] = field(repr=False, compare=False)

    def unwrap(self) -> Any:
        """The value.

        Raises:
            TaskFailed: the task did not succeed.
        """
        if self.ok:
            return self.value
        why = self.error.message if self.error else self.state
        raise TaskFailed(f"task {self.number} {self.state}: {why}", self)


def from_line(line: dict[str, Any]) -> Result:
    """Read a line; fields that are missing or unknown do no harm."""
    error = line.get("error")
    return Result(
        number=line["number"],
        id=line.get("id"),
        flow=line.get("flow"),
        type=line.get("type", ""),
        state=line.get("state", ""),
        ok=bool(line.get("ok")),
        value=line.get("result"),
        error=None
        if not isinstance(error, dict)
        else TaskError(str(error.get("class", "")), str(error.get("code", "")), str(error.get("message", ""))),
        attempts=line.get("attempts", 0),
        seconds=line.get("seconds"),
        line=line,
    )


def success(tasks: dict[str, int]) -> bool:
    """Whether counts by state mean success: nothing failed, was quarantined or cancelled, and something succeeded.

    A skipped task alone is no failure: of a pair that waits for `success` and `failure` one is always skipped.
    """
    bad = sum(tasks.get(state, 0) for state in ("failed", "quarantined", "cancelled"))
    return not bad and tasks.get("succeeded", 0) > 0
