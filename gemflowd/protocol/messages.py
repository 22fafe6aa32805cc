"""Shapes of requests: what a body may hold. The daemon's side only (clients send maps and need no msgspec).

`read` turns a decoded map into one of these, with the path of the offending field when it doesn't fit.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec

from gemflowd.model.errors import Invalid

T = TypeVar("T", bound=msgspec.Struct)

#: Tasks in one request.
MAX_CHUNK_TASKS: Final = 2_000
#: Requests of one client that may be unanswered.
CREDIT: Final = 64
#: Seconds of one long poll.
MAX_POLL: Final = 30.0


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """A request without fields."""


class Hello(Body):
    client: str | None = None


class Grow(Body):
    task: int
    token: int
    step: str | None = None


class Budget(Body):
    """Of a submission or a task."""

    money: float | None = None
    tokens: int | None = None
    action: str | None = None


class PossibleCall(msgspec.Struct, forbid_unknown_fields=True):
    prompt_tokens: int
    output_tokens: int
    model: str | None = None


class Estimate(Body):
    calls: list[PossibleCall]


class Submit(Body):
    submission: str
    tasks: list[Any]  # each is read as a `Task`, a piece at a time
    name: str | None = None
    metadata: dict[str, Any] = {}
    weight: float = 1.0
    order: str = "fair"
    offset: int = 0
    complete: bool = True
    stream: bool = False
    max_errors: int | None = None
    grow: Grow | None = None
    budget: Budget | None = None


class Task(msgspec.Struct, forbid_unknown_fields=True):
    """A task as submitted; `docs/protocol.md` has the meaning of each field."""

    type: str | None = None
    data: dict[str, Any] = {}
    id: int | str | None = None
    priority: int = 5
    deps: list[Any] = []
    queue: str = "default"
    delay: float = 0.0
    run_at: float | str | None = None
    expires: float | str | None = None
    expires_in: float | None = None
    timeout: float | None = None
    retries: int | None = None
    backoff: float | None = None
    retry_on: dict[str, int] = {}
    when: str | None = None
    key: str | None = None
    key_ttl: float | None = None
    key_conflict: str | None = None
    resources: dict[str, float] = {}
    estimate: float | None = None
    template: bool = True
    metadata: dict[str, Any] = {}
    agent: str | None = None
    task: str | None = None
    memory_mb: int | None = None
    budget: Budget | None = None


class Dep(msgspec.Struct, forbid_unknown_fields=True):
    id: int | str | None = None
    number: int | None = None
    flow: int | None = None
    on: str = "success"


class Submission(Body):
    """`submission` and `discard`."""

    submission: str


class Refs(Body):
    """`cancel`, `hold`, `release`, `delete`."""

    refs: list[Any]


class Status(Body):
    refs: list[Any] | None = None


class List(Body):
    state: str | None = None
    type: str | None = None
    queue: str | None = None
    flow: int | None = None
    since: float | None = None
    metadata: dict[str, Any] = {}
    limit: int = 100
    after: int = 0


class Show(Body):
    ref: Any


class Results(Body):
    refs: list[Any]
    after: int = 0
    limit: int = 1000
    wait: float | None = None


class Wait(Body):
    refs: list[Any]
    any: bool = False
    timeout: float = MAX_POLL
    results: int = 0


class Logs(Body):
    ref: Any
    after: int = 0
    limit: int = 1000
    wait: float = 0.0


class Retry(Body):
    refs: list[Any]
    downstream: bool = False


class Edit(Body):
    refs: list[Any]
    priority: int


class Queues(Body):
    queue: str | None = None
    limit: int | msgspec.UnsetType | None = msgspec.UNSET


class Queue(Body):
    """`pause` and `resume`."""

    queue: str = "default"


class MemoryGet(Body):
    key: str
    namespace: str = "default"


class MemorySet(Body):
    key: str
    value: Any
    namespace: str = "default"
    ttl: float | None = None
    version: int | None = None


class MemoryDelete(Body):
    key: str
    namespace: str = "default"
    version: int | None = None


class MemoryList(Body):
    namespace: str = "default"
    prefix: str = ""
    after: str = ""
    limit: int = 100
    values: bool = False
    namespaces: bool = False


class CacheBegin(Body):
    """Of a running attempt."""

    key: bytes
    model: str
    mode: str


class BatchJoin(Body):
    """Of a running attempt, as the others of batches."""

    model: str
    request: bytes
    until: int = 0


class BatchTake(Body):
    late: bool = False


class BatchQuestions(Body):
    after: int = 0


class BatchName(Body):
    name: str


class BatchAnswers(Body):
    answers: list[tuple[int, bytes]]


class BatchEnd(Body):
    reason: str


class CacheList(Body):
    limit: int = 100


class Limit(Body):
    """Of a running attempt."""

    seconds: float


class Limits(Body):
    """`limits`: all of them, one, or one that is changed."""

    limit: str | None = None
    set: dict[str, Any] = {}
    reset: bool = False


class ScheduleAdd(Body):
    name: str
    cron: str
    task: dict[str, Any]  # read as a `Task`
    zone: str = "UTC"
    misfire: str = "once"
    misfire_limit: int = 10
    overlap: str = "skip"
    paused: bool = False
    replace: bool = False


class ScheduleName(Body):
    """`schedule_show`, `schedule_pause`, `schedule_resume`, `schedule_remove`."""

    name: str


class Page(Body):
    """`budget_list`."""

    after: int = 0
    limit: int = 1000


class BudgetOf(Body):
    """`budget_remove`."""

    of: Any


class BudgetSet(Body):
    of: Any
    money: float | None = None
    tokens: int | None = None
    action: str | None = None


class BudgetRaise(Body):
    of: Any
    money: float | None = None
    tokens: int | None = None


class Usage(Body):
    by: str = "model"
    since: float | str | None = None
    after: int = 0
    limit: int = 1000


class Workers(Body):
    count: int | None = None


class Profile(Body):
    name: str | None = None


class Config(Body):
    set: dict[str, Any] = {}
    reset: list[str] = []
    reset_all: bool = False


class Subscribe(Body):
    topics: list[str] = []


class Events(Body):
    from_: int = msgspec.field(name="from")
    topics: list[str] = []
    limit: int = 1000


class Snapshot(Body):
    """`db_snapshot`."""

    path: str


class Drain(Body):
    off: bool = False


class Shutdown(Body):
    drain: bool = True


_AT = re.compile(r" - at `(?:key in )?(\$.*)`$")
_FIELD = re.compile(r"field `([^`]+)`")


def read(kind: type[T], value: object, path: str = "") -> T:
    """Check the shape of a decoded value.

    Args:
        path: where the value is in the request, such as `tasks[3]`.

    Raises:
        Invalid: `missing_field`, `unknown_field` or `wrong_type`, with the path of the field.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), path) from None


def _invalid(text: str, path: str) -> Invalid:
    place = ""
    if (match := _AT.search(text)) is not None:
        place, text = match[1].removeprefix("$").removeprefix("."), text[: match.start()]
    field = _FIELD.search(text)
    code = "wrong_type"
    if field is not None and "missing required" in text:
        code, place = "missing_field", join(place, field[1])
        text = f"the field `{field[1]}` is required"
    elif field is not None and "unknown field" in text:
        code, place = "unknown_field", join(place, field[1])
        text = f"there is no field `{field[1][:80]}`"
    return Invalid(code, text, join(path, place) or None)


def join(path: str, place: str) -> str:
    """`tasks[3]` and `priority` make `tasks[3].priority`."""
    if not path or not place or place.startswith("["):
        return path + place
    return f"{path}.{place}"
