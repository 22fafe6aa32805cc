"""The executor seam: where attempts run. The queue never runs code; an executor does, and has no queue inside.

An executor reports by facts: `SlotUp`, `SlotStopping`, `SlotDown` are its capacity, `AttemptsEnded`, `TakenBack` and `LogLines`
what becomes of attempts. The engine places each attempt on a slot; what a slot can't take comes back as `TakenBack`.
`start` is idempotent on (task, token). One implementation so far, `local.pool`; `app` knows the rest of it by this interface alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gemflowd.model.attempt import HandlerInfo, Start
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


@dataclass(slots=True, frozen=True)
class Size:
    """How many blocking workers, how many coroutines at a time."""

    workers: int
    slots: int


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

    def resize(self, size: Size) -> None:
        """Change the capacity; what runs is not touched."""
        ...

    def restart(self) -> int:
        """Replace every worker by a fresh one, without touching what runs. Returns how many will be replaced."""
        ...

    def logs_stored(self, lines: int) -> None:
        """Log lines that were reported are durable: more may come."""
        ...

    def workers(self) -> list[WorkerInfo]: ...
    async def close(self) -> None:
        """End everything at once; attempts that still run are lost, without blame."""
        ...


HandlerSettings = dict[str, Any]
