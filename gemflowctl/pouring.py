"""Submitting a flow while it is read: chunks are made and sent as tasks come, and forgotten once the daemon has them.

Steps, shared by both clients. What is known as a whole goes through `submission.py`, which can also put it into order;
here the tasks go as they come, so that a dependency must be in the same or an earlier chunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from gemflowctl import chunks
from gemflowctl.errors import ClientError, InvalidInput, RefusedByDaemon
from gemflowctl.steps import Body, Call, Collect, Post, Steps
from gemflowctl.submission import (
    check_uuid,
    chunk_limit,
    drain,
    is_complete,
    known_as_reply,
    known_submission,
    located,
    new_uuid,
    plain_task,
)

_UNDER_WAY: Final = 2
_STUCK: Final = 3


@dataclass(slots=True)
class _Chunk:
    """Tasks from `start` on; `last` when none comes after them, `paused` when the next may take a while."""

    start: int
    tasks: list[Body]
    last: bool = False
    paused: bool = False

    @property
    def stop(self) -> int:
        return self.start + len(self.tasks)


def pour(
    tasks: Iterable[Mapping[str, Any] | None],
    about: Body,
    *,
    uuid: str | None,
    progress: Callable[[int], object] | None,
) -> Steps[Body]:
    """Send tasks as they come; brings the same as `submission.submit`.

    With `uuid` those that the daemon has received already are read and not sent. A task that can't be sent, or what reading
    them raises, discards what was received, unless `stream` is in `about`: then that stays and runs, and the flow is open.

    Args:
        tasks: None among them says that the next may take a while: what has come is sent.
        about: as `submission.about_flow` makes it.
        progress: called with the number of tasks that the daemon has for certain.

    Raises:
        InvalidInput: `details` have `submission`, `received`, and `discarded` where something was to be.
        RefusedByDaemon: `path` counts tasks from the first that was read.
    """
    pouring = _Pouring(check_uuid(uuid) if uuid else new_uuid(), about, progress)
    known = (yield from known_submission(pouring.uuid)) if uuid else None
    if known is not None and is_complete(known, pouring.streams):
        return {**known, "submission": pouring.uuid, "count": known["received"], "repeated": True}
    source = iter(tasks)
    if known is not None and known["received"]:
        pouring.received = known["received"]
        skipped = sum(1 for _ in islice((task for task in source if task is not None), known["received"]))
        if skipped < known["received"]:
            raise InvalidInput(
                f"the daemon has {known['received']} tasks of this submission, but only {skipped} are given;"
                " is it the same input?"
            )
    limit = yield from chunk_limit()
    try:
        reply = yield from pouring.send(cut(source, pouring.received, most=limit))
    except InvalidInput as problem:
        problem.details |= yield from pouring.give_up()
        raise
    except ClientError:
        raise
    except Exception:
        yield from pouring.give_up()
        raise
    return {
        **{key: value for key, value in reply.items() if key != "first" or pouring.single},
        "count": pouring.received,
    }


def cut(
    tasks: Iterator[Mapping[str, Any] | None],
    start: int,
    *,
    most: int = chunks.CHUNK_TASKS,
    size: int = chunks.CHUNK_BYTES,
) -> Iterator[_Chunk]:
    """Chunks of tasks as they come, each given out as soon as it is known whether another follows. The last may be empty.

    Raises:
        InvalidInput: a task holds what can't be sent, or whatever reading the next one raises.
    """
    chunk = _Chunk(start, [])
    weight = 0
    for task in tasks:
        if task is None:
            if chunk.tasks:
                chunk.paused = True
                yield chunk
                chunk, weight = _Chunk(chunk.stop, []), 0
            continue
        plain = plain_task(task)
        (measured,) = chunks.sizes([plain])
        if chunk.tasks and (len(chunk.tasks) >= most or weight + measured > size):
            yield chunk
            chunk, weight = _Chunk(chunk.stop, []), 0
        chunk.tasks.append(plain)
        weight += measured
    if not chunk.stop:
        raise InvalidInput("there is no task to submit")
    chunk.last = True
    yield chunk


class _Pouring:
    """One submission under way. `received` counts the tasks that the daemon has for certain."""

    def __init__(self, uuid: str, about: Body, progress: Callable[[int], object] | None) -> None:
        self.uuid = uuid
        self.streams = bool(about.get("stream"))
        self.received = 0
        self.single = False
        self._about = about
        self._progress = progress
        self._under_way: deque[tuple[_Chunk, Any]] = deque()

    def send(self, ahead: Iterator[_Chunk]) -> Steps[Body]:
        """Send all chunks, a few under way at a time; the last reply."""
        again: deque[_Chunk] = deque()
        stuck = 0
        while True:
            while len(self._under_way) < _UNDER_WAY and not self._paused():
                chunk = again.popleft() if again else next(ahead, None)
                if chunk is None:
                    break
                self._under_way.append((chunk, (yield Post(self._call(chunk)))))
            chunk, pending = self._under_way.popleft()
            try:
                reply: Body = yield Collect(pending)
            except RefusedByDaemon as refusal:
                held = [chunk, *(other for other, _ in self._under_way), *again]
                yield from drain(self._under_way)
                self._under_way.clear()
                if refusal.code == "submission_closed" and not chunk.tasks:
                    return (yield from known_as_reply(self.uuid))
                if refusal.code != "submission_offset":
                    raise located(refusal, _counted_from(chunk.start)) from None
                arrived = yield from self._arrived(refusal)
                stuck = stuck + 1 if arrived <= chunk.start else 0
                if stuck >= _STUCK or arrived < chunk.start:
                    raise refusal from None
                again = deque(_rest(held, arrived))
                continue
            self.received = chunk.stop
            if self._progress is not None:
                self._progress(self.received)
            if chunk.last:
                return reply

    def _paused(self) -> bool:
        """Whether to hear what the daemon says before anything else is read."""
        return any(chunk.paused for chunk, _ in self._under_way)

    def give_up(self) -> Steps[Body]:
        """The input is wrong: see what the daemon has, and remove it unless it runs; what came of that, for the error."""
        for chunk, pending in self._under_way:
            try:
                yield Collect(pending)
                self.received = chunk.stop
            except ClientError:
                continue
        details: Body = {"submission": self.uuid, "received": self.received}
        if self.received and not self.streams:
            try:
                yield Call("discard", {"submission": self.uuid}, repeatable=False)
            except ClientError as error:
                # Not found: the daemon has refused one of the chunks behind and removed the flow by itself.
                details["discarded"] = error.code == "not_found"
            else:
                details["discarded"] = True
        return details

    def _call(self, chunk: _Chunk) -> Call:
        body: Body = {"submission": self.uuid, "tasks": chunk.tasks, **self._about}
        self.single = chunk.last and chunk.start == 0
        if not self.single:
            body["offset"] = chunk.start
            body["complete"] = chunk.last
        return Call("submit", body)

    def _arrived(self, refusal: RefusedByDaemon) -> Steps[int]:
        """Where the daemon stands."""
        known = yield from known_submission(self.uuid)
        if known is None:
            raise RefusedByDaemon(refusal.code, f"{refusal.message}; the daemon does not know this submission any more")
        return int(known["received"])


def _counted_from(start: int) -> Callable[[int], int]:
    return lambda index: start + index


def _rest(held: list[_Chunk], arrived: int) -> Iterator[_Chunk]:
    """What is left of chunks when the daemon has the tasks before `arrived`."""
    for chunk in held:
        if chunk.start >= arrived:
            yield chunk
        elif chunk.stop > arrived or chunk.last:
            yield _Chunk(arrived, chunk.tasks[arrived - chunk.start :], chunk.last)
