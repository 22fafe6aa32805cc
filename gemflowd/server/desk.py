"""What the commands need from the rest of the daemon, handed in by `app`. Commands parse, call and answer; they decide nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from gemflowd.model.attempt import HandlerInfo
from gemflowd.model.errors import Refused
from gemflowd.model.facts import Fact, Reply
from gemflowd.model.prices import Prices
from gemflowd.server.waiters import Waiters

P = ParamSpec("P")
T = TypeVar("T")

Body = dict[str, Any]


class Asks(Protocol):
    """The store's reader."""

    def ask(self, question: Callable[Concatenate[Any, P], T], *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...


class Copies(Protocol):
    """Copies and checks of the database. Both raise `Refused`, at once or in what they return."""

    def snapshot(self, target: str) -> Future[Body]: ...
    def check(self) -> Future[Body]: ...


class Configuration(Protocol):
    """The settings and what changing them means."""

    def table(self) -> list[Body]: ...
    def profile(self) -> Body: ...
    def change(self, values: Mapping[str, Any], reset: Sequence[str] | None, reply: Reply) -> None:
        """Check, store and apply changes at run time; `reset` None gives everything back. Raises `Refused`."""
        ...

    def size(self) -> Body:
        """`{count, origin, slots: {blocking, coroutine}}`."""
        ...

    def resources(self) -> Mapping[str, float]:
        """The named amounts that there are in all."""
        ...

    def prices(self) -> Prices: ...
    def check_cap(self, memory_mb: int, path: str) -> None:
        """Raises `Refused`: a worker has more before its first task."""
        ...

    def enabled(self) -> bool:
        """Whether more than one task runs at a time."""
        ...

    def vertex(self) -> bool:
        """Whether models are asked through Vertex AI."""
        ...

    def monitoring(self) -> bool:
        """Whether statistics are sampled and published."""
        ...


class Personas(Protocol):
    def expand(self, data: Mapping[str, Any], path: str) -> Body:
        """The data of a `gemini` task with its persona and model written into it. Raises `Refused` `unknown_agent`."""
        ...

    def table(self) -> list[Body]: ...
    def servers(self) -> list[str]:
        """Names of the MCP servers of the settings."""
        ...


class Validator(Protocol):
    def check(self, task_type: str, data: Mapping[str, Any], path: str, *, templates: bool = False) -> HandlerInfo:
        """The type's description, once the data fits its schema. With `templates`, strings in it may be some. Raises `Refused`."""
        ...

    def table(self) -> list[Body]: ...


@contextmanager
def renamed_path(path: str, field: str) -> Iterator[None]:
    """A refusal inside names the field that the request really has."""
    try:
        yield
    except Refused as refused:
        if refused.path == path:
            refused.path = field
        raise


@dataclass(slots=True)
class Upload:
    """A submission of which requests are on their way."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    stored: asyncio.Future[None] | None = None  # of the last request that was handed on: when it was answered


@dataclass(slots=True)
class Desk:
    """Everything that a command may use."""

    loop: asyncio.AbstractEventLoop
    post: Callable[[Fact], None]
    reader: Asks
    questions: Any  # the reader's questions, as a class: `desk.reader.ask(desk.questions.totals)`
    copies: Copies
    configuration: Configuration
    personas: Personas
    validator: Validator
    waiters: Waiters
    identity: Callable[[], Body]  # version, pid, epoch, state, drain, started, events
    stats: Callable[[], Body]
    workers: Callable[[], list[Body]]
    progress: Callable[[], Mapping[int, Body]]  # of running attempts, by task
    paused_limits: Callable[[], list[Body]]
    now: Callable[[], float]
    moment: Callable[[], Any]  # now by both clocks, as the reader's questions about the shared memory take it
    shutdown: Callable[[bool], None]
    free_devices: Callable[[], Sequence[float]]  # of each GPU its free share; empty: none are known
    memory_tight: Callable[[], bool]  # all workers together have what they may: no blocking task starts
    drain: Callable[[bool, Reply], None]  # start nothing more, or go on
    reload: Callable[[], Awaitable[Body]]  # `{changed, pending, restarting}`; raises `Refused`
    check: Callable[[], list[Body]]  # `{check, state, message, remedy}`; on any thread
    restart_workers: Callable[[], int]  # how many will be replaced
    position: Callable[[], Body]  # of the events: {next, topics}
    ending: bool = False  # the last moment: who waits is answered with what there is
    uploads: dict[str, Upload] = field(default_factory=dict)  # by UUID

    def with_progress(self, items: Iterable[Body]) -> None:
        """Add to tasks that run how far they say that they are."""
        progress = None
        for item in items:
            if item.get("state") == "running":
                progress = self.progress() if progress is None else progress
                item["progress"] = progress.get(item["number"])

    async def decide(self, make: Callable[[Reply], Fact]) -> Body:
        """Let the engine decide a fact; its reply.

        Raises:
            Refused: that is the reply.
        """
        answered: asyncio.Future[Body] = self.loop.create_future()

        def take(result: Body | Refused) -> None:
            if answered.done():
                return  # nobody waits any more
            if isinstance(result, Refused):
                answered.set_exception(result)
            else:
                answered.set_result(result)

        self.post(make(take))
        return await answered

    async def ask(self, question: Callable[Concatenate[Any, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self.reader.ask(question, *args, **kwargs), loop=self.loop)
