"""Submitting a flow: one request if it fits, else chunks, two under way at a time; goes on after a break.

Steps, shared by both clients. The whole is identified by a UUID, so that nothing is stored twice. What is read while it is
sent goes through `pouring.py`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from gemflowctl import chunks, growth
from gemflowctl.errors import InvalidInput, RefusedByDaemon
from gemflowctl.order import dependencies_first
from gemflowctl.refs import Referable, dependencies
from gemflowctl.steps import Body, Call, Collect, Post, Steps
from gemflowd.protocol.moments import parse_moment

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

    @property
    def streams(self) -> bool:
        """Whether what has arrived runs before all of it has."""
        return bool(self.about.get("stream"))

    @property
    def whole(self) -> bool:
        """Whether it has to go in one request, however large."""
        return "grow" in self.about

    def cut(self, start: int) -> Iterator[chunks.Chunk]:
        return chunks.cut(self.sizes, start, tasks=self.limit)

    def several(self) -> bool:
        """Whether it goes in more than one request."""
        return not self.whole and len(list(self.cut(0))) > 1

    def call(self, start: int, stop: int) -> Call:
        body: Body = {"submission": self.uuid, "tasks": self.tasks[start:stop], **self.about}
        if start > 0 or stop < len(self.tasks):
            body["offset"] = start
            body["complete"] = stop == len(self.tasks)
        return Call("submit", body)

    def located(self, error: RefusedByDaemon, offset: int) -> RefusedByDaemon:
        """The refusal with its path as the caller counts tasks, not as the chunk does."""
        return located(error, lambda index: self.order[offset + index] if offset + index < len(self.order) else None)


def located(error: RefusedByDaemon, place: Callable[[int], int | None]) -> RefusedByDaemon:
    """The refusal with the index of a task in its path replaced by `place` of it, where that is not None."""
    match = _TASK_PATH.match(error.path or "")
    index = None if match is None else place(int(match[1]))
    if match is None or index is None:
        return error
    return RefusedByDaemon(error.code, error.message, f"tasks[{index}]{(error.path or '')[match.end() :]}")


def task_fields(type_: str | None, data: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Body:
    """One task from arguments; those that are None are left out."""
    task: Body = {} if type_ is None else {"type": type_}
    if data is not None:
        if not isinstance(data, Mapping):
            raise InvalidInput(f"a task's data is a map, not a {type(data).__name__}", path="data")
        task["data"] = dict(data)
    task.update((name, value) for name, value in fields.items() if value is not None)
    return task


def about_flow(
    *,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    weight: float | None = None,
    order: str | None = None,
    stream: bool = False,
    max_errors: int | None = None,
    grow: Mapping[str, Any] | None = None,
    budget: Mapping[str, Any] | None = None,
) -> Body:
    """The fields of a submission beside its tasks.

    Raises:
        InvalidInput: they don't go together, or `grow` is asked for outside of a task.
    """
    if grow is not None and budget is not None:
        raise InvalidInput("what is added to a flow falls under the flow's budget, and has none of its own")
    if grow is not None and (stream or name is not None):
        raise InvalidInput(f"what is added to a flow can't have `{'stream' if stream else 'name'}`")
    if stream and order == "critical-path":
        raise InvalidInput(
            "`critical-path` needs to know the whole flow before it starts; it does not go with `stream`"
        )
    fields = {
        "name": name,
        "metadata": None if metadata is None else dict(metadata),
        "weight": weight,
        "order": order,
        "stream": stream or None,
        "max_errors": max_errors,
        "grow": None if grow is None else growth.of_environment(grow),
        "budget": None if budget is None else dict(budget),
    }
    return {key: value for key, value in fields.items() if value is not None}


def submit(
    tasks: Sequence[Mapping[str, Any]], about: Body, *, uuid: str | None, progress: Progress | None
) -> Steps[Body]:
    """Send everything; brings `{flow, submission, state, count, first?, received, repeated}`, `count` for the whole flow.

    With `uuid` it goes on where the daemon stopped receiving, if it knows that submission. What fits into one request is
    simply sent: the daemon recognises a repeat.

    Args:
        about: as `about_flow` makes it.

    Raises:
        InvalidInput: nothing was sent.
        RefusedByDaemon: `path` names the task by its place in `tasks`.
    """
    plan = _plan(tasks, check_uuid(uuid) if uuid else new_uuid(), about)
    if not plan.several():
        reply: Body = yield from _one(plan)
        if progress is not None:
            progress(len(plan.tasks), len(plan.tasks))
        return reply
    start = 0
    if uuid is not None:
        known = yield from known_submission(plan.uuid)
        if known is not None and is_complete(known, plan.streams):
            return {**known, "submission": plan.uuid, "count": known["received"], "repeated": True}
        start = known["received"] if known else 0
        if start > len(plan.tasks):
            raise InvalidInput(
                f"the daemon has {start} tasks of this submission, but only {len(plan.tasks)} are given; is it the same input?"
            )
    plan.limit = yield from chunk_limit()
    reply = yield from _all_chunks(plan, start, progress)
    # `first` and `count` of the last chunk say nothing about the flow.
    return {**{key: value for key, value in reply.items() if key != "first"}, "count": len(plan.tasks)}


def is_complete(known: Body, streams: bool) -> bool:
    """Whether the daemon says that it has all of a submission. Of one that streams only a chunk tells: it runs anyway."""
    return known["state"] != "open" and not streams


def chunk_limit() -> Steps[int]:
    """How many tasks go into one request."""
    hello: Body = yield Call("hello")
    return max(1, min(chunks.CHUNK_TASKS, int(hello.get("limits", {}).get("chunk_tasks", chunks.CHUNK_TASKS))))


def _plan(tasks: Sequence[Mapping[str, Any]], uuid: str, about: Body) -> _Plan:
    given = [plain_task(task) for task in tasks]
    if not given:
        raise InvalidInput("there is no task to submit")
    plan = _Plan(uuid, given, list(range(len(given))), chunks.sizes(given), about)
    if plan.several():
        plan.order = dependencies_first(given)
        plan.tasks = [given[index] for index in plan.order]
        plan.sizes = [plan.sizes[index] for index in plan.order]
    return plan


def plain_task(task: Mapping[str, Any]) -> Body:
    """The task as the daemon takes it: `deps` may hold handles of other tasks, `run_at` and `expires` dates.

    Raises:
        InvalidInput: a date has no zone.
    """
    plain = dict(task)
    deps = plain.get("deps")
    if isinstance(deps, list | tuple):
        plain["deps"] = [part for dep in deps for part in (_dependency(dep) if hasattr(dep, "ref") else [dep])]
    for field in ("run_at", "expires"):
        if hasattr(plain.get(field), "isoformat"):
            try:
                plain[field] = parse_moment(plain[field])
            except ValueError as problem:
                raise InvalidInput(str(problem), path=field) from None
    return plain


def _dependency(handle: Referable) -> list[dict[str, object]]:
    return dependencies(handle.ref)


def known_submission(uuid: str) -> Steps[Body | None]:
    """How far the daemon has received a submission; None when it does not know it."""
    try:
        reply: Body = yield Call("submission", {"submission": uuid})
    except RefusedByDaemon as refusal:
        if refusal.code == "not_found":
            return None
        raise
    return reply


def known_as_reply(uuid: str) -> Steps[Body]:
    """For a submission that turned out to be complete already: what is known of it, as the answer to a repeat."""
    known = (yield from known_submission(uuid)) or {}
    return {**known, "submission": uuid, "repeated": True}


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
        reply = yield from _send_from(plan, start, progress)
        if reply is not None:
            return reply
        known = yield from known_submission(plan.uuid)
        if known is not None and is_complete(known, plan.streams):
            return {**known, "submission": plan.uuid, "repeated": True}
        received = known["received"] if known else 0
        stuck = stuck + 1 if received <= start else 0
        if stuck >= _STUCK:
            raise RefusedByDaemon("submission_offset", f"the daemon does not get beyond task {received} of this flow")
        start = received


def _send_from(plan: _Plan, start: int, progress: Progress | None) -> Steps[Body | None]:
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
            yield from drain(under_way)
            if refusal.code == "submission_offset":
                return None
            if refusal.code == "submission_closed" and chunk.start == total:
                return (yield from known_as_reply(plan.uuid))
            raise plan.located(refusal, chunk.start) from None
        if progress is not None:
            progress(chunk.stop, total)


def drain(under_way: Iterable[tuple[Any, Any]]) -> Steps[None]:
    """Replies to chunks behind a refused one only say that they came at the wrong time."""
    for _, pending in under_way:
        try:
            yield Collect(pending)
        except RefusedByDaemon:
            continue
