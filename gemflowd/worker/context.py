"""What a handler gets as its second argument."""

from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gemflowd.worker.batches import AsyncBatch
from gemflowd.worker.cache import AsyncCache
from gemflowd.worker.memory import AsyncMemory, Memory


@dataclass(slots=True)
class BaseContext:
    """One attempt, seen from inside its handler. Settings that handlers may read are in `settings`."""

    task: int
    flow: int
    id: int | str | None
    type: str
    attempt: int
    timeout: float  # seconds for this attempt
    results: Mapping[str, Any]  # results of the dependencies, by id (or number, where it has none)
    settings: Mapping[str, Any]  # the part of the daemon's settings that handlers may see; no secrets
    emit: Callable[[str, str], None]  # stream, text: one line of the task's log
    token: int = 0  # that of the live attempt: who has it speaks for the task
    memory_mb: int | None = None  # the cap that was asked for this task; None: the worker's (setting memory_mb)
    devices: tuple[str, ...] = ()  # GPUs that are this attempt's, as CUDA_VISIBLE_DEVICES names them
    grace: float = 10.0  # seconds between being asked to stop and being killed
    pass_fds: tuple[int, ...] = ()  # descriptors that a subprocess must inherit: the lease (docs/architecture.md)
    usage: dict[str, Any] = field(default_factory=dict)  # what the attempt cost, kept with it
    note: Any = None  # what the last attempt that ended as `again` noted
    agains: int = 0  # how many have ended so, since the task was submitted or retried
    _cancelled: bool = False
    _process_group: Callable[[int], None] | None = None
    _progress: Callable[[float, float | None, str | None], None] = lambda done, total, message: None

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of the task: hand it to services that accept one."""
        return f"gemflow-{self.flow}-{self.task}"

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was asked to stop (by a person or its timeout)."""
        return self._cancelled

    def log(self, text: str, stream: str = "log") -> None:
        """Add lines to the task's log. Never log a secret."""
        for line in text.splitlines() or [""]:
            self.emit(stream, line)

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Say how far it is: shown while it runs, and told to who listens, at most ten times a second. It is not stored.

        Args:
            done: in any unit; with `total` a share of it.
            message: what it does now, up to 500 characters.
        """
        self._progress(done, total, message)

    def started_process(self, pid: int) -> None:
        """Tell the daemon of a subprocess that leads a process group, so that it ends with the attempt."""
        if self._process_group is not None:
            self._process_group(pid)

    def process_environment(self) -> dict[str, str]:
        """The environment for a subprocess: this process's, without secrets, and with who asked for it."""
        environment = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
        environment["GEMFLOW_TASK"] = str(self.task)
        environment["GEMFLOW_FLOW"] = str(self.flow)
        environment["GEMFLOW_ATTEMPT"] = str(self.attempt)
        environment["GEMFLOW_TOKEN"] = str(self.token)
        if self.settings.get("endpoint"):  # any client finds this daemon by it
            environment["GEMFLOW_ENDPOINT"] = self.settings["endpoint"]
        environment["GEMFLOW_IDEMPOTENCY_KEY"] = self.idempotency_key
        if self.devices:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.devices)
        return environment


def _nobody(op: str, body: dict[str, Any]) -> Any:
    raise RuntimeError(f"{op}: there is no daemon behind this context")


@dataclass(slots=True)
class Context(BaseContext):
    """That of a sync handler, which blocks while it asks the daemon. Safe to use from the handler's own threads."""

    _ask: Callable[[str, dict[str, Any]], dict[str, Any]] = _nobody

    @property
    def memory(self) -> Memory:
        """The shared memory."""
        return Memory(self._ask)

    def submit(self, tasks: Sequence[Mapping[str, Any]], step: str | None = None) -> dict[str, Any]:
        """Add tasks to the flow of this one, all or none; when it returns, they are durable. Never wait for one of them.

        Args:
            tasks: as docs/protocol.md describes them; `deps` may name any task of the flow, this one too.
            step: a name of your own. What a step has added is not added again by a later attempt, which gets the same answer.

        Returns:
            `{flow, first, count, repeated, …}`.

        Raises:
            RequestRefused: nothing was added.
        """
        return self._ask("submit", _submission(tasks, step))

    def limit(self, seconds: float) -> float:
        """Put the limit that the task falls under to sleep, while this attempt goes on: nothing else under it starts meanwhile.

        Args:
            seconds: from 0.05 to 86,400. A limit that sleeps for longer already goes on sleeping.

        Returns:
            until when it sleeps, in seconds since the epoch.

        Raises:
            RequestRefused: `not_found`: tasks of this type fall under no limit.
        """
        return float(self._ask("limit", {"seconds": seconds})["until"])


@dataclass(slots=True)
class AsyncContext(BaseContext):
    """That of an `async def` handler: what asks the daemon is a coroutine."""

    _ask: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]] = _nobody

    @property
    def memory(self) -> AsyncMemory:
        """The shared memory."""
        return AsyncMemory(self._ask)

    @property
    def cache(self) -> AsyncCache:
        """The cache of model calls."""
        return AsyncCache(self._ask)

    @property
    def batch(self) -> AsyncBatch:
        """Batches of model calls."""
        return AsyncBatch(self._ask)

    async def catalogue(self) -> dict[str, Any]:
        """The task types and personas of the installation: `{handlers, agents}`, as docs/protocol.md has it."""
        return await self._ask("handlers", {})

    async def estimate(self, calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What calls of models would cost, each `{prompt_tokens, output_tokens, model?}`.

        Returns:
            `{tokens, money, currency, unpriced, budget}`: `money` None where one of the models, those in `unpriced`, has no price;
            `budget` that of the task's flow, None: it has none.
        """
        return await self._ask("estimate", {"calls": [dict(call) for call in calls]})

    async def submit(self, tasks: Sequence[Mapping[str, Any]], step: str | None = None) -> dict[str, Any]:
        """As `Context.submit`."""
        return await self._ask("submit", _submission(tasks, step))

    async def limit(self, seconds: float) -> float:
        """As `Context.limit`."""
        return float((await self._ask("limit", {"seconds": seconds}))["until"])


def _submission(tasks: Sequence[Mapping[str, Any]], step: str | None) -> dict[str, Any]:
    return {"submission": str(uuid.uuid4()), "tasks": [dict(task) for task in tasks], "grow": {"step": step}}


#: Variables that a handler's subprocess never inherits.
SECRET_VARIABLES = frozenset(
    {"GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "CREDENTIALS_DIRECTORY"}
)
