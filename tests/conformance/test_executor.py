"""What every executor promises (`executor.base`): its facts, whatever it runs attempts in. One implementation so far."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgpack
import pytest
from helpers.pools import Pool, local_pool

from gemflowd.executor.base import Size
from gemflowd.model.attempt import Kind, Outcome
from gemflowd.model.effects import Retract
from gemflowd.model.facts import AttemptsEnded, SlotDown, SlotStopping, SlotUp, TakenBack

Scenario = Callable[[Pool], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    """Run a scenario against an executor of that size."""

    def with_pool(scenario: Scenario, *, workers: int = 1, slots: int = 2, grace: float = 10.0) -> None:
        async def go() -> None:
            modules = ("odd_tasks", "greedy_tasks")
            async with local_pool(tmp_path, *modules, workers=workers, slots=slots, grace=grace) as pool:
                await scenario(pool)

        asyncio.run(go())

    return with_pool


def test_an_attempt_is_run_once_however_often_it_is_started(run: Callable[..., None]) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        order = pool.order("echo", slot, {"a": 1})
        pool.pool.start([order])
        pool.pool.start([order])
        ended = await pool.ended(order)
        assert (ended.outcome, msgpack.unpackb(ended.payload), ended.token) == (Outcome.DONE, {"a": 1}, order.token)
        last = pool.start("echo", slot)
        await pool.ended(last)
        assert len([one for fact in pool.of(AttemptsEnded) for one in fact.ended if one.task == order.task]) == 1

    run(scenario)


def test_what_a_slot_cannot_take_comes_back(run: Callable[..., None]) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        nowhere = pool.start("echo", "nowhere")
        unknown = pool.start("no-such-type", slot)
        assert pool.taken_back() == {nowhere.task, unknown.task}

    run(scenario)


def test_attempts_end_by_class(run: Callable[..., None]) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        for kind, data, outcome in (
            ("fail", {}, Outcome.ERROR),
            ("refuse", {}, Outcome.PERMANENT),
            ("echo", {}, Outcome.DONE),
        ):
            assert (await pool.ended(pool.start(kind, slot, data))).outcome is outcome
        (coroutines,) = await pool.up(Kind.COROUTINE)
        limited = await pool.ended(pool.start("limited", coroutines, {"times": 1, "retry_after": 7.5}))
        assert (limited.outcome, limited.retry_after) == (Outcome.RATE_LIMITED, 7.5)

    run(scenario)


def test_a_cancelled_attempt_ends_as_that(run: Callable[..., None]) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        (coroutines,) = await pool.up(Kind.COROUTINE)
        blocking = pool.start("nap", slot, {"seconds": 1000})
        coroutine = pool.start("sleep", coroutines, {"seconds": 1000})
        for order in (blocking, coroutine):
            pool.pool.cancel(order.task, order.token)
            assert (await pool.ended(order)).outcome is Outcome.CANCELLED
        assert not pool.of(SlotDown)

    run(scenario)


def test_an_attempt_runs_no_longer_than_it_may(run: Callable[..., None]) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        ended = await pool.ended(pool.start("nap", slot, {"seconds": 1000}, timeout=0.1))
        assert ended.outcome is Outcome.TIMEOUT
        assert msgpack.unpackb(ended.payload)["code"] == "timeout"

    run(scenario)


@pytest.mark.parametrize("kind", ["stubborn", "busy-in-c", "blocks-signals"])
def test_what_does_not_stop_is_killed_after_the_grace_time(run: Callable[..., None], kind: str) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        order = pool.start(kind, slot)
        await pool.begun(order)
        pool.pool.cancel(order.task, order.token)
        assert (await pool.ended(order)).outcome is Outcome.CANCELLED
        await pool.down(slot.name)
        (other,) = await pool.up()
        assert (await pool.ended(pool.start("echo", other))).outcome is Outcome.DONE

    run(scenario, grace=0.2)


def test_blame_only_where_there_is_one_culprit(run: Callable[..., None]) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        assert (await pool.ended(pool.start("die", slot, {"how": "SIGSEGV"}))).outcome is Outcome.CRASH
        (coroutines,) = await pool.up(Kind.COROUTINE)
        innocent = pool.start("sleep", coroutines, {"seconds": 1000})
        culprit = pool.start("adie", coroutines, {"seconds": 0.05, "how": "SIGKILL"})
        assert {(await pool.ended(order)).outcome for order in (innocent, culprit)} == {Outcome.SUSPECT}

    run(scenario)


def test_only_what_had_started_is_charged(run: Callable[..., None]) -> None:
    """Several very short tasks are handed over at a time; those behind the one that kills the worker come back."""

    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        first, killer, behind = orders = [
            pool.order("echo", slot, patience=60.0),  # not taken back because the first is slow, on a busy machine
            pool.order("die", slot, {"how": "exit"}, patience=60.0),
            pool.order("echo", slot),
        ]
        pool.pool.start(orders)
        assert (await pool.ended(first)).outcome is Outcome.DONE
        assert (await pool.ended(killer)).outcome is Outcome.CRASH
        await pool.down(slot.name)
        assert pool.taken_back() == {behind.task}

    run(scenario)


def test_a_long_task_holds_no_short_one(run: Callable[..., None]) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        long, short = orders = [pool.order("nap", slot, {"seconds": 1000}), pool.order("echo", slot)]
        pool.pool.start(orders)
        await pool.until(lambda: short.task in pool.taken_back())
        assert long.task not in pool.outcomes()

    run(scenario)


def test_shrinking_lets_workers_finish_and_growing_adds_at_once(run: Callable[..., None]) -> None:
    async def scenario(pool: Pool) -> None:
        first, second = await pool.up(count=2)
        orders = [pool.start("whoami", slot, {"seconds": 0.3}) for slot in (first, second)]
        for order in orders:
            await pool.begun(order)
        pool.pool.resize(Size(1, 2))
        await pool.until(lambda: pool.of(SlotStopping) or None)
        assert [(await pool.ended(order)).outcome for order in orders] == [Outcome.DONE] * 2
        await pool.down(pool.of(SlotStopping)[0].name)
        pool.pool.resize(Size(3, 2))
        assert len(await pool.up(count=3)) == 3

    run(scenario, workers=2)


def test_outcomes_of_very_short_tasks_are_told_together(run: Callable[..., None]) -> None:
    """While a worker has enough left: each report is a turn of the engine."""

    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        orders = [pool.order("nap", slot, {"seconds": 0.0005}, patience=60.0) for _ in range(100)]
        pool.pool.start(orders)
        for order in orders:
            assert (await pool.ended(order)).outcome is Outcome.DONE
        reports = [fact.ended for fact in pool.of(AttemptsEnded)]
        assert sum(map(len, reports)) == 100
        assert len(reports) <= 60, "one by one"

    run(scenario)


@pytest.mark.parametrize(("patience", "taken_back"), [(30.0, False), (0.05, True)])
def test_what_is_behind_a_task_comes_back_when_that_takes_too_long(
    run: Callable[..., None], patience: float, taken_back: bool
) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        first, second = (pool.order("whoami", slot, {"seconds": 0.5}, patience=patience) for _ in range(2))
        pool.pool.start([first, second])
        await pool.ended(first)
        assert (second.task in pool.taken_back()) is taken_back
        if not taken_back:
            await pool.ended(second)

    run(scenario)


@pytest.mark.parametrize(("patience", "comes_back"), [(0.03, False), (60.0, True)])
def test_what_has_not_begun_is_taken_back_when_asked_for(
    run: Callable[..., None], tmp_path: Path, patience: float, comes_back: bool
) -> None:
    """All of it, or what waits behind a task that is not very short."""
    until = tmp_path / "go on"

    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        orders = [pool.order("whoami", slot, {"until": str(until)}, patience=60.0) for _ in range(2)]
        orders[0].patience = patience
        pool.pool.start(orders[:1])
        await pool.begun(orders[0])
        pool.pool.start(orders[1:])
        pool.pool.retract(Retract.AHEAD)
        assert pool.taken_back() == ({orders[1].task} if comes_back else set())
        pool.pool.retract(Retract.ALL)
        assert pool.taken_back() == {orders[1].task}
        until.touch()
        assert (await pool.ended(orders[0])).outcome is Outcome.DONE

    run(scenario)


def test_no_more_run_at_a_time_than_asked_for_while_a_slot_that_leaves_is_busy(run: Callable[..., None]) -> None:
    async def scenario(pool: Pool) -> None:
        first, second = await pool.up(count=2)
        orders = [pool.start("whoami", slot, {"seconds": 0.5}) for slot in (first, second)]
        for order in orders:
            await pool.begun(order)
        pool.pool.resize(Size(1, 2))
        await pool.until(lambda: pool.of(SlotStopping) or None)
        pool.pool.resize(Size(2, 2))
        for order in orders:
            await pool.ended(order)
        await pool.up(count=2)
        facts = [fact for fact in pool.facts if isinstance(fact, SlotUp | AttemptsEnded | SlotDown)]
        third = next(
            index
            for index, fact in enumerate(facts)
            if isinstance(fact, SlotUp) and fact.kind is Kind.BLOCKING and fact.name > "b2"
        )
        assert any(isinstance(fact, AttemptsEnded) for fact in facts[:third]), "it came while two were running"

    run(scenario, workers=2)


def test_the_end_leaves_no_attempt_open_and_blames_none(tmp_path: Path) -> None:
    async def go() -> None:
        async with local_pool(tmp_path, "greedy_tasks") as pool:
            (slot,) = await pool.up()
            running = pool.start("whoami", slot, {"seconds": 1000})
            await pool.begun(running)
        assert pool.outcomes()[running.task].outcome is Outcome.LOST
        assert isinstance(pool.facts[-1], SlotDown | TakenBack)

    asyncio.run(go())
