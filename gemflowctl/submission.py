"""Submitting a flow: one request if it fits, else chunks, two under way at a time; goes on after a break.

Steps, shared by both clients. The whole is identified by a UUID, so that nothing is stored twice.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from gemflowctl import chunks
from gemflowctl.errors import InvalidInput, RefusedByDaemon
from gemflowctl.order import dependencies_first
from gemflowctl.refs import Referable, dependencies
from gemflowctl.steps import Body, Call, Collect, Post, Steps

#: Chunks that are under way at a time: while the daemon stores one, the next is on its way.
_UNDER_WAY: Final = 2
#: How often to ask the daemon where it stands before giving up; every answer has to be further on than the last.
_STUCK: Final = 3
_TASK_PATH: Final = re.compile(r"tasks\[(\d+)\]")

Progress = Callable[[int, int], object]


def new_uuid() -> str:
    """A UUID for a submission."""
    return str(uuid4())


def check_uuid(text: str) -> str:
    """Raises: InvalidInput: it is not a UUID."""
    try:
        return str(UUID(text))
    except ValueError:
        raise InvalidInput(f"{text!r} is not the UUID of a submission") from None


@dataclass(slots=True)
class _Plan:
    """What is to be sent: the tasks in the order of sending, and where each stood in the caller's list."""

    uuid: str
    tasks: list[Body]
    order: list[int]
    sizes: list[int]
    about: Body
    limit: int = chunks.CHUNK_TASKS

    def cut(self, start: int) -> Iterator[chunks.Chunk]:
        return chunks.cut(self.sizes, start, tasks=self.limit)

    def call(self, start: int, stop: int) -> Call:
        body: Body = {"submission": self.uuid, "tasks": self.tasks[start:stop], **self.about}
        if start > 0 or stop < len(self.tasks):
            body["offset"] = start
            body["complete"] = stop == len(self.tasks)
        return Call("submit", body)

    def located(self, error: RefusedByDaemon, offset: int) -> RefusedByDaemon:
        """The refusal with its path as the caller counts tasks, not as the chunk does."""
        match = _TASK_PATH.match(error.path or "")
        if match is None or offset + int(match[1]) >= len(self.order):
            return error
        assert error.path is not None
        path = f"tasks[{self.order[offset + int(match[1])]}]{error.path[match.end() :]}"
        return RefusedByDaemon(error.code, error.message, path)


def task_fields(type_: str | None, data: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Body:
    """One task from arguments; those that are None are left out."""
    task: Body = {} if type_ is None else {"type": type_}
    if data is not None:
        if not isinstance(data, Mapping):
            raise InvalidInput(f"a task's data is a map, not a {type(data).__name__}", path="data")
        task["data"] = dict(data)
    task.update((name, value) for name, value in fields.items() if value is not None)
    return task


def submit(
    tasks: Sequence[Mapping[str, Any]],
    *,
    uuid: str | None,
    name: str | None,
    metadata: Mapping[str, Any] | None,
    weight: float | None,
    progress: Progress | None,
) -> Steps[Body]:
    """Send everything; brings `{flow, submission, state, count, first?, received, repeated}`, `count` for the whole flow.

    With `uuid` it goes on where the daemon stopped receiving, if it knows that submission. What fits into one request is
    simply sent: the daemon recognises a repeat.

    Raises:
        InvalidInput: nothing was sent.
        RefusedByDaemon: `path` names the task by its place in `tasks`.
    """
    plan = _plan(tasks, check_uuid(uuid) if uuid else new_uuid(), name, metadata, weight)
    start = 0
    several = len(list(plan.cut(0))) > 1
    if several and uuid is not None:
        known = yield from _known(plan.uuid)
        if known is not None and known["state"] != "open":
            return {**known, "submission": plan.uuid, "count": known["received"], "repeated": True}
        start = known["received"] if known else 0
        if start > len(plan.tasks):
            raise InvalidInput(
                f"the daemon has {start} tasks of this submission, but only {len(plan.tasks)} are given; is it the same input?"
            )
    if not several:
        reply: Body = yield from _one(plan)
        if progress is not None:
            progress(len(plan.tasks), len(plan.tasks))
        return reply
    hello: Body = yield Call("hello")
    plan.limit = max(1, min(chunks.CHUNK_TASKS, hello.get("limits", {}).get("chunk_tasks", chunks.CHUNK_TASKS)))
    reply = yield from _all_chunks(plan, start, progress)
    # `first` and `count` of the last chunk say nothing about the flow.
    return {**{key: value for key, value in reply.items() if key != "first"}, "count": len(plan.tasks)}


def _plan(
    tasks: Sequence[Mapping[str, Any]],
    uuid: str,
    name: str | None,
    metadata: Mapping[str, Any] | None,
    weight: float | None,
) -> _Plan:
    given = [_plain(task) for task in tasks]
    if not given:
        raise InvalidInput("there is no task to submit")
    measured = chunks.sizes(given)
    order = list(range(len(given)))
    if len(list(chunks.cut(measured))) > 1:
        order = dependencies_first(given)
    about = {"name": name, "metadata": None if metadata is None else dict(metadata), "weight": weight}
    return _Plan(
        uuid,
        [given[index] for index in order],
        order,
        [measured[index] for index in order],
        {key: value for key, value in about.items() if value is not None},
    )


def _plain(task: Mapping[str, Any]) -> Body:
    """The task with handles of other tasks, which `deps` may hold, written as the daemon takes them."""
    plain = dict(task)
    deps = plain.get("deps")
    if isinstance(deps, list | tuple):
        plain["deps"] = [part for dep in deps for part in (_dependency(dep) if hasattr(dep, "ref") else [dep])]
    return plain


def _dependency(handle: Referable) -> list[dict[str, object]]:
    return dependencies(handle.ref)


def _known(uuid: str) -> Steps[Body | None]:
    try:
        reply: Body = yield Call("submission", {"submission": uuid})
    except RefusedByDaemon as refusal:
        if refusal.code == "not_found":
            return None
        raise
    return reply


def _one(plan: _Plan) -> Steps[Body]:
    try:
        reply: Body = yield plan.call(0, len(plan.tasks))
    except RefusedByDaemon as refusal:
        raise plan.located(refusal, 0) from None
    return reply


def _all_chunks(plan: _Plan, start: int, progress: Progress | None) -> Steps[Body]:
    """Send chunks; when the daemon says that it stands elsewhere, ask where, and go on from there."""
    stuck = 0
    while True:
        reply = yield from _stream(plan, start, progress)
        if reply is not None:
            return reply
        known = yield from _known(plan.uuid)
        if known is not None and known["state"] != "open":
            return {**known, "submission": plan.uuid, "repeated": True}
        received = known["received"] if known else 0
        stuck = stuck + 1 if received <= start else 0
        if stuck >= _STUCK:
            raise RefusedByDaemon("submission_offset", f"the daemon does not get beyond task {received} of this flow")
        start = received


def _stream(plan: _Plan, start: int, progress: Progress | None) -> Steps[Body | None]:
    """The last reply, or None when a chunk did not begin where the daemon stood."""
    total = len(plan.tasks)
    # Everything may have been received without the flow having been completed: then an empty chunk does that.
    ahead = plan.cut(start) if start < total else iter([chunks.Chunk(total, total, 0)])
    under_way: deque[tuple[chunks.Chunk, Any]] = deque()
    last: Body | None = None
    while True:
        while len(under_way) < _UNDER_WAY and (chunk := next(ahead, None)) is not None:
            under_way.append((chunk, (yield Post(plan.call(chunk.start, chunk.stop)))))
        if not under_way:
            return last
        chunk, pending = under_way.popleft()
        try:
            last = yield Collect(pending)
        except RefusedByDaemon as refusal:
            yield from _drain(under_way)
            if refusal.code == "submission_offset":
                return None
            raise plan.located(refusal, chunk.start) from None
        if progress is not None:
            progress(chunk.stop, total)


def _drain(under_way: deque[tuple[chunks.Chunk, Any]]) -> Steps[None]:
    """Replies to chunks behind a refused one only say that they came at the wrong time."""
    for _, pending in under_way:
        try:
            yield Collect(pending)
        except RefusedByDaemon:
            continue
