"""Short ways to write tasks and submissions as the engine takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from gemflowd.model.attempt import Kind
from gemflowd.model.errors import Refused
from gemflowd.model.facts import Grow, NewDependency, NewTask, Reply, Submit, TaskNumber
from gemflowd.model.lane import LaneKey
from gemflowd.model.refs import NamedTask
from gemflowd.model.states import On

Target = int | str | NamedTask | TaskNumber


def dep(target: Target, on: On = On.SUCCESS) -> NewDependency:
    """An index into the same chunk, an id of an earlier chunk, or a task elsewhere."""
    return NewDependency(target, on, "tasks[0].deps[0]")


def new(
    id: str | None = None,  # noqa: A002 - the field's own name
    *deps: NewDependency,
    priority: int = 5,
    type: str = "echo",  # noqa: A002
    kind: Kind = Kind.BLOCKING,
    queue: str = "default",
    bucket: str | None = None,
    due: float | None = None,
    retries: int | None = None,
    backoff: float | None = None,
    timeout: float | None = None,
    body: bytes = b"body",
    resources: str = "",
    **how: Any,
) -> NewTask:
    if how.get("memory_mb") is not None:
        kind = Kind.BLOCKING  # as the server does
    lane = LaneKey(queue, bucket, kind, resources=resources)
    return NewTask(id, type, priority, lane, timeout, retries, backoff, body, tuple(deps), run_at=due, **how)


def many(count: int, **fields: Any) -> list[NewTask]:
    return [new(**fields) for _ in range(count)]


def digest_of(tasks: Iterable[NewTask]) -> bytes:
    return hashlib.blake2b(repr(list(tasks)).encode(), digest_size=16).digest()


def submission(
    reply: Reply,
    uuid: str,
    tasks: Sequence[NewTask],
    *,
    offset: int = 0,
    complete: bool = True,
    weight: float = 1.0,
    name: str | None = None,
    **how: Any,
) -> Submit:
    return Submit(reply, uuid, name, None, weight, offset, complete, digest_of(tasks), list(tasks), **how)


class Answer:
    """A reply that is kept; asserts that there is never a second one."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any] | Refused] = []

    def __call__(self, body: dict[str, Any] | Refused) -> None:
        assert not self.bodies, f"a second reply: {body}, after {self.bodies}"
        self.bodies.append(body)

    @property
    def given(self) -> bool:
        return bool(self.bodies)

    @property
    def body(self) -> dict[str, Any]:
        (body,) = self.bodies
        assert not isinstance(body, Refused), body
        return body

    @property
    def code(self) -> str | None:
        """Of the refusal, None where it is none."""
        (body,) = self.bodies
        return body.code if isinstance(body, Refused) else None


def grow(
    task: int,
    token: int,
    tasks: list,
    answer: Answer | None = None,
    step: str | None = None,
    awaits: tuple[int, ...] = (),
) -> Submit:
    """A running task adds tasks to its flow."""
    fact = submission(answer or Answer(), f"g{task}-{token}-{step}", tasks)
    fact.grow = Grow(task, token, step, awaits)
    return fact
