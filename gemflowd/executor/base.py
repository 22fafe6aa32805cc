"""The executor seam: where attempts run. The queue never runs code; an executor does, and has no queue inside.

An executor reports by facts: `SlotUp`, `SlotStopping`, `SlotDown` are its capacity, `AttemptsEnded`, `TakenBack` and `LogLines`
what becomes of attempts, `MemoryTight` that nothing more should start.
The engine places each attempt on a slot; what a slot can't take comes back as `TakenBack`.
`start` is idempotent on (task, token). One implementation so far, `local.pool`; `app` knows the rest of it by this interface alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gemflowd.model.attempt import HandlerInfo, Start
from gemflowd.model.effects import Retract
from gemflowd.model.facts import Fact

Report = Callable[[Fact], None]
#: Carries out what a running attempt asks of the daemon: task, token, operation, body (MessagePack), and who takes the answer,
#: once: whether it was granted, and its body or error (MessagePack). An executor knows nothing of operations.
AttemptAsks = Callable[[int, int, str, bytes, Callable[[bool, bytes], None]], None]


@dataclass(slots=True)
class WorkerInfo:
    """A worker as `workers` and `stats` show it."""

    name: str
    kind: str
    pid: int
    state: str  # starting, idle, busy, stopping
    rss_bytes: int | None
    active: int
    tasks: list[int]
    done: int
    started: float
    recycle: str | None = None  # why it will be replaced when it can be
    lag: float | None = None  # seconds for which the loop of a coroutine worker stands still now
    blocked_by: int | None = None  # the task that keeps it, where that is known
    progress: list[dict[str, Any]] = field(default_factory=list)  # of `tasks`: {task, done, total, message, at}
    cap_bytes: int | None = None  # memory above which it is killed


@dataclass(slots=True, frozen=True)
class Size:
    """How many blocking workers, how many coroutines at a time."""

    workers: int
    slots: int


@dataclass(slots=True, frozen=True)
class WorkerLimits:
    """How long a worker serves, and how much memory it may have. Figures of 0 mean never, or no limit. Times in seconds."""

    memory_mb: int = 512  # of a worker with its subprocesses, and of a task that does not say: above it, it is killed
    memory_total_mb: int = 0  # of all workers: above it no more blocking tasks are started
    max_tasks: int = 0  # after which a worker is replaced
    max_age: float = 0.0
    min_life: float = 10.0  # no worker is replaced before, but for a person or new code


class Executor(Protocol):
    async def attach(self, size: Size) -> list[HandlerInfo]:
        """Start up. Returns the task types that run here.

        Raises:
            ConfigError: the handlers can't be loaded.
        """
        ...

    def start(self, attempts: Sequence[Start]) -> None: ...
    def cancel(self, task: int, token: int) -> None:
        """Ask an attempt to stop; kill it after the grace time."""
        ...

    def retract(self, what: Retract) -> None:
        """Take back what was handed over and has not begun."""
        ...

    def resize(self, size: Size) -> None:
        """Change the capacity; what runs is not touched."""
        ...

    def limit(self, limits: WorkerLimits) -> None:
        """Other limits for the workers; from now on, also for those that there are."""
        ...

    def baseline_mb(self) -> int:
        """What a worker has before its first task, MB; 0 while nobody knows. A cap below it would kill every worker."""
        ...

    def restart(self) -> int:
        """Replace all workers, one by one, each when its task has ended. Returns how many."""
        ...

    def logs_stored(self, lines: int) -> None:
        """Log lines that were reported are durable: more may come."""
        ...

    def workers(self) -> list[WorkerInfo]: ...
    def progress(self) -> dict[int, dict[str, Any]]:
        """How far running attempts say that they are, by task: `{done, total, message, at}`."""
        ...

    async def close(self) -> None:
        """End everything at once; attempts that still run are lost, without blame."""
        ...


HandlerSettings = dict[str, Any]
