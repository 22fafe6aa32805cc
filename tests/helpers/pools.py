"""A real local pool on this process's loop, with what it reports kept in order and waited for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgpack

from gemflowd.executor.base import Size, WorkerLimits
from gemflowd.executor.local.lease import Lease
from gemflowd.executor.local.options import Options
from gemflowd.executor.local.pool import LocalPool
from gemflowd.model.attempt import Ended, HandlerInfo, Kind, Start
from gemflowd.model.facts import AttemptsEnded, Fact, LogLines, SlotDown, SlotStopping, SlotUp, TakenBack

PATIENCE = 30.0
F = TypeVar("F")


class Pool:
    """The engine's part, by hand: it knows the slots that are up, and says which attempt goes where."""

    def __init__(self, pool: LocalPool, changed: asyncio.Condition, facts: list[Fact]) -> None:
        self.pool = pool
        self.facts = facts
        self._changed = changed
        self._numbers = itertools.count(1)

    def start(self, kind: str, slot: str | SlotUp, /, data: dict[str, Any] | None = None, **fields: Any) -> Start:
        """Hand one attempt over."""
        order = self.order(kind, slot, data, **fields)
        self.pool.start([order])
        return order

    def order(self, kind: str, slot: str | SlotUp, data: dict[str, Any] | None = None, **fields: Any) -> Start:
        number = next(self._numbers)
        name = slot if isinstance(slot, str) else slot.name
        body = msgpack.packb({"data": data or {}})
        fields = {"timeout": 60.0, **fields}
        return Start(number, number + 1000, 1, 1, None, kind, name, body, None, **fields)

    async def until(self, what: Callable[[], F | None]) -> F:
        """Wait until `what` gives something; it is asked after each report."""
        async with asyncio.timeout(PATIENCE), self._changed:
            while True:
                if found := what():
                    return found
                await self._changed.wait()

    def of(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    async def up(self, kind: Kind = Kind.BLOCKING, count: int = 1) -> list[SlotUp]:
        """The slots of that kind that take attempts now, when there are so many."""
        return await self.until(lambda: (len(self.slots_up(kind)) >= count and self.slots_up(kind)) or None)

    def slots_up(self, kind: Kind = Kind.BLOCKING) -> list[SlotUp]:
        gone = {fact.name for fact in self.facts if isinstance(fact, SlotStopping | SlotDown)}
        return [fact for fact in self.of(SlotUp) if fact.kind is kind and fact.name not in gone]

    async def down(self, name: str) -> SlotDown:
        return await self.until(lambda: next((fact for fact in self.of(SlotDown) if fact.name == name), None))

    def outcomes(self) -> dict[int, Ended]:
        return {ended.task: ended for fact in self.of(AttemptsEnded) for ended in fact.ended}

    async def ended(self, order: Start) -> Ended:
        return await self.until(lambda: self.outcomes().get(order.task))

    def taken_back(self) -> set[int]:
        return {task for fact in self.of(TakenBack) for task, _ in fact.attempts}

    async def begun(self, order: Start) -> None:
        """Wait for the first line of its log: until then it may still be taken back."""
        await self.until(lambda: any(line[0] == order.task for fact in self.of(LogLines) for line in fact.lines))


@asynccontextmanager
async def local_pool(
    path: Path,
    *modules: str,
    workers: int = 1,
    slots: int = 1,
    grace: float = 10.0,
    limits: WorkerLimits | None = None,
    total: int = 0,
    loaded: Callable[[list[HandlerInfo]], None] = lambda handlers: None,
) -> AsyncIterator[Pool]:
    """Args: path: an empty directory; modules: handler modules, looked for in tests/helpers and in `path`."""
    changed = asyncio.Condition()
    facts: list[Fact] = []
    loop = asyncio.get_running_loop()
    telling: set[asyncio.Task[None]] = set()

    async def tell() -> None:
        async with changed:
            changed.notify_all()

    def report(fact: Fact) -> None:
        facts.append(fact)
        if isinstance(fact, LogLines):
            pool.logs_stored(len(fact.lines))
        task = loop.create_task(tell())
        telling.add(task)
        task.add_done_callback(telling.discard)

    def asks(*request: Any) -> None:
        raise AssertionError(f"nobody answers {request}")

    lease = Lease(path / "lease")
    lease.take()
    options = Options(modules, [str(Path(__file__).parent), str(path)], {}, grace)
    pool = LocalPool(loop, lease, report, asks, options, limits or WorkerLimits(), total, None, loaded)
    try:
        await pool.attach(Size(workers, slots))
        yield Pool(pool, changed, facts)
    finally:
        await pool.close()
        lease.release()
