"""The small tables that a store has beside tasks and flows, each with a few verbs of its own. `parts/` implements them.

Unless one says otherwise, what they write is written at once, in the turn's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from gemflowd.model.batch import Batch
from gemflowd.model.budget import Amount, Budget, Reservation, Scope, Target
from gemflowd.model.lane import Bucket
from gemflowd.model.schedule import Schedule
from gemflowd.model.states import State


class Addition(NamedTuple):
    """What a submission came to that is no flow of its own: tasks added to one, or the task that held its unique key."""

    flow: int
    first: int
    size: int  # how many tasks
    digest: bytes | None  # None: whatever is sent
    grown: bool  # tasks were added to the flow


class HeldValue(NamedTuple):
    """What a key of the shared memory has, without the value itself."""

    version: int
    size: int  # bytes of the value
    until: float | None  # by the steady clock


class NewValue(NamedTuple):
    """A value to be stored, in the order of its columns."""

    value: bytes  # MessagePack
    version: int
    updated: float
    until: float | None
    task: int | None  # who sets it: an attempt of a task, or a client
    attempt: int | None
    client: str | None


class KeyTable(Protocol):
    """Unique keys, claims of one flow on another, additions."""

    def holder(self, key: str, steady: float) -> int | None:
        """The task that holds the key."""
        ...

    def take(self, key: str, task: int, until: float | None) -> None: ...
    def free(self, tasks: Sequence[int]) -> None:
        """These tasks have ended: their keys (but for those with a time of their own) and claims are free."""
        ...

    def claim(self, claims: Sequence[tuple[int, int]]) -> None:
        """(flow, child): the flow must not be deleted before the child has ended."""
        ...

    def claimed(self, flow: int) -> bool: ...
    def addition(self, submission: str) -> Addition | None: ...
    def add(self, submission: str, addition: Addition) -> None: ...
    def added(self, flow: int) -> int:
        """How many tasks were added to a flow by its own."""
        ...


class LinkTable(Protocol):
    """Dependencies that are not taken apart yet, and conditions."""

    def put(self, flow: int, rows: Sequence[tuple[int, bool, bytes]]) -> None:
        """(task, whether these are its last, MessagePack [[parent, on], …])."""
        ...

    def next(self, flow: int, limit: int) -> list[tuple[int, int, bool, bytes]]:
        """(seq, task, last, edges) of the first that are left."""
        ...

    def done(self, seqs: Sequence[int]) -> None: ...
    def conditions(self, tasks: Sequence[int]) -> dict[int, str]: ...
    def ends(self, task: int) -> list[tuple[int, str | None, State, int]]:
        """How the dependencies of a task ended: number, id, state, bytes of the result."""
        ...

    def errors(self, tasks: Sequence[int]) -> dict[int, bytes]:
        """The error of the last attempt of each task that has one, MessagePack."""
        ...


class PathTable(Protocol):
    """A flow's tasks and dependencies as its critical path needs them."""

    def next_flow(self) -> int | None:
        """The first flow that is to be put in order now."""
        ...

    def chunks(self, flow: int, after: int, limit: int) -> list[tuple[int, int, int]]:
        """(offset, count, number of the first task) of chunks with tasks, those behind an offset."""
        ...

    def estimates(self, first: int, last: int) -> list[tuple[int, str, float | None]]:
        """(number, type, estimate) of a range of tasks."""
        ...

    def edges(self, after: tuple[int, int], last: int, limit: int) -> list[tuple[int, int]]:
        """(parent, child) of dependencies, in this order, settled or not: those behind one, up to a parent."""
        ...


class Upkeep(Protocol):
    """What keeps the file small, sound and written. The first few verbs belong into a turn's transaction, the others stand
    outside of any."""

    def ended_flows(self, after: tuple[float, int], until: float, limit: int) -> list[tuple[float, int]]:
        """(end, number) of flows that ended before a steady time, from the oldest on; hidden ones are not among them."""
        ...

    def trim_events(self, before: float, limit: int) -> bool:
        """Remove the events of some of the oldest turns, at most so many, those before a wall time. The last turn's stay: they
        say how far the numbers are. Returns whether there are more."""
        ...

    def trim_keys(self, now: float, limit: int) -> bool:
        """Remove some unique keys whose own time is over. Returns whether there are more."""
        ...

    def oldest(self) -> Oldest: ...

    def checkpoint(self) -> None:
        """Carry the log over into the database if it has become long.

        Raises:
            StoreError: what was written can't be trusted; never to be ignored. `StoreFull`: nothing is lost, try later.
        """
        ...

    def tidy(self, seconds: float) -> bool:
        """Give free room back to the file system: one step of about that time. Returns whether there is more to do."""
        ...

    def settle(self) -> None:
        """The end: leave no log behind."""
        ...

    def keep_ballast(self) -> bool:
        """Make the file that keeps room for outcomes when the disk is full, if it isn't there. Returns whether it is."""
        ...

    def drop_ballast(self) -> bool:
        """Give that room to the database. Returns whether there was any."""
        ...

    @property
    def ballast_bytes(self) -> int:
        """What `keep_ballast` would take from the disk now."""
        ...


class Oldest(NamedTuple):
    """What may be removed first of each kind, by its time."""

    flow: float | None  # the end of a flow, steady
    events: float | None  # wall
    key: float | None  # when it is over, steady


class ValueTable(Protocol):
    """The shared memory. Knows no clock: what has expired is there until it is deleted."""

    def held(self, namespace: str, key: str) -> HeldValue | None: ...
    def put(self, namespace: str, key: str, new: NewValue) -> None:
        """Store a value; one that is there is replaced."""
        ...

    def delete(self, namespace: str, key: str) -> None: ...
    def expired(self, steady: float, limit: int) -> list[tuple[str, str, int]]:
        """(namespace, key, bytes of the value), those first that expired first."""
        ...

    def next_expiry(self) -> float | None: ...


class ScheduleTable(Protocol):
    """Schedules."""

    def get(self, name: str) -> Schedule | None: ...
    def task(self, name: str) -> bytes:
        """What is submitted, as the engine packed it."""
        ...

    def shown(self, name: str) -> bytes:
        """The task as it was given, MessagePack."""
        ...

    def count(self) -> int: ...
    def put(self, schedule: Schedule, shown: bytes, task: bytes) -> None:
        """A new one, or another one of the same name."""
        ...

    def update(self, schedule: Schedule) -> None:
        """What runs change: all but the rule and the task."""
        ...

    def remove(self, name: str) -> None: ...
    def due(self, now: float, limit: int) -> list[Schedule]:
        """Those whose next run has come, the earliest first."""
        ...

    def next_run(self) -> float | None:
        """The next run of any of them."""
        ...


class BudgetTable(Protocol):
    """Budgets. Changes of their figures are written with the turn; these are written at once, in its transaction."""

    def add(self, budgets: Sequence[Budget]) -> None:
        """New ones; one for the same thing is replaced."""
        ...

    def remove(self, scope: Scope, target: Target) -> None: ...
    def of(self, scope: Scope, targets: Sequence[int]) -> list[Budget]:
        """Those of flows or tasks."""
        ...

    def used(self, scope: Scope, target: Target, day: int) -> tuple[Amount, int]:
        """What attempts of a task, a flow or a day have used so far, as far as it is recorded, and how many without a known cost."""
        ...

    def reopen_unpriced(self) -> int:
        """Let go on what was held for want of a price; how many."""
        ...


class CachedCall(NamedTuple):
    """What is known of a stored answer, without the answer."""

    number: int
    model: str
    size: int
    usage: bytes | None  # MessagePack


class NewCachedCall(NamedTuple):
    """An answer to be stored, in the order of its columns."""

    number: int
    key: bytes
    model: str
    stored: float  # by the wall clock
    used: float  # by the steady clock
    size: int
    usage: bytes | None
    value: bytes


class CacheCount(NamedTuple):
    """What is added to the counts of one model, in the order of their columns."""

    model: str
    hits: int = 0
    misses: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    thought_tokens: int = 0
    cost_nano: int = 0  # billionths of the currency
    unpriced: int = 0  # uses of which nobody knows what they would have cost


class CacheTable(Protocol):
    """Answers of model calls. Entries up to the number `cleared` are as good as gone."""

    def find(self, key: bytes) -> CachedCall | None: ...
    def put(self, new: NewCachedCall, *, replace: bool, cleared: int) -> bool:
        """Store an answer. One that there is stays, unless told otherwise. Returns whether the new one is stored."""
        ...

    def touch(self, hits: Sequence[tuple[int, int]], now: float) -> None:
        """(number, how often): they were used again."""
        ...

    def oldest(self, cleared: int, limit: int) -> list[tuple[int, float, int]]:
        """(number, last use, size) of those that were used longest ago."""
        ...

    def next_use(self) -> float | None:
        """When the one was used that was used longest ago."""
        ...

    def remove(self, numbers: Sequence[int]) -> None: ...
    def cleared(self, cleared: int, limit: int) -> list[tuple[int, int]]:
        """(number, size) of some of those that were cleared and are still to be removed."""
        ...

    def count(self, counts: Sequence[CacheCount]) -> None: ...


class BatchItem(NamedTuple):
    """A question that is in a batch."""

    batch: int
    answered: bool
    assumed: Reservation | None = None  # what counts as used, since its task was given up


class BatchTable(Protocol):
    """Batches of model calls, by the number of their task."""

    def get(self, number: int) -> Batch | None: ...
    def open_for(self, model: str, until: int) -> Batch | None:
        """The one that takes questions of that kind."""
        ...

    def put(self, batch: Batch) -> None: ...
    def item(self, task: int) -> BatchItem | None: ...
    def add(self, task: int, batch: int, request: bytes) -> None: ...
    def answer(self, batch: int, answers: Sequence[tuple[int, bytes]]) -> None:
        """(task, answer): of those that have none yet."""
        ...

    def unanswered(self, batch: int, after: int, limit: int) -> list[int]:
        """Some of the tasks whose questions have no answer, by number."""
        ...

    def waited_for(self, batch: int) -> bool:
        """Whether one of those has not ended."""
        ...

    def those_in(self, tasks: Sequence[int]) -> list[int]:
        """Those of the tasks that have a question in a batch."""
        ...

    def waiting(self) -> list[int]:
        """Tasks with a question in a batch, but for those that were given up with something reserved."""
        ...

    def assume(self, task: int, reservation: Reservation | None) -> None:
        """What counts as used for a question; None: nothing any more."""
        ...

    def remove(self, tasks: Sequence[int]) -> None:
        """Their questions are in no batch any more."""
        ...


class LimitTable(Protocol):
    """What is remembered of limits."""

    def load(self, buckets: dict[str, Bucket]) -> None:
        """Put what is stored into the buckets, those that are missing included."""
        ...

    def put(self, buckets: Iterable[Bucket]) -> None:
        """Store their ledgers."""
        ...

    def give(self, bucket: Bucket) -> None:
        """Store the figures that it was given at run time."""
        ...

    def stops(self) -> dict[int, tuple[int, int]]:
        """Flows with `max_errors`: that, and the number of failures at which it is held."""
        ...

    def stop_at(self, flow: int, most: int, at: int, *, stopped: bool) -> None: ...

    def forget(self, names: Iterable[str]) -> None:
        """Nothing is remembered of these but what they were given."""
        ...
