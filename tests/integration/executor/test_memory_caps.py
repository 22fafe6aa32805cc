"""What takes too much memory is killed, by its own cap or its worker's, with all that it has started; and nobody else is blamed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import psutil
from helpers.daemon import command_line, wait_gone
from helpers.pools import Pool, local_pool

from gemflowd.executor.base import WorkerLimits
from gemflowd.model.attempt import Kind, Outcome
from gemflowd.model.facts import MemoryTight

Scenario = Callable[[Pool], Awaitable[None]]
LIMITS = WorkerLimits(memory_mb=250, min_life=1000.0)


def with_pool(path: Path, scenario: Scenario, **how: Any) -> None:
    async def go() -> None:
        async with local_pool(path, "greedy_tasks", **{"limits": LIMITS, **how}) as pool:
            await scenario(pool)

    asyncio.run(go())


def test_a_task_over_its_workers_cap(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        ended = await pool.ended(pool.start("eat", slot))
        assert ended.outcome is Outcome.MEMORY
        error = msgpack.unpackb(ended.payload)
        assert (error["code"], error["cap_mb"]) == ("memory", 250)
        assert error["rss_mb"] > 250
        assert f"used {error['rss_mb']} MB; its cap is 250 MB" == error["message"]
        assert (ended.peak_kb or 0) >= error["rss_mb"] * 1024
        (other,) = await pool.up()
        assert (await pool.ended(pool.start("whoami", other))).outcome is Outcome.DONE

    with_pool(tmp_path, scenario)


def test_a_task_over_its_own_cap(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        ended = await pool.ended(pool.start("eat", slot, memory_mb=120))
        assert (ended.outcome, msgpack.unpackb(ended.payload)["cap_mb"]) == (Outcome.MEMORY, 120)

    with_pool(tmp_path, scenario)


def test_what_others_have_left_in_its_worker_does_not_count_against_its_own_cap(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        assert (await pool.ended(pool.start("leak", slot, {"mb": 180}))).outcome is Outcome.DONE
        ended = await pool.ended(pool.start("whoami", slot, {"seconds": 0.3}, memory_mb=100))
        assert ended.outcome is Outcome.DONE
        assert (ended.peak_kb or 0) < 100 * 1024
        ended = await pool.ended(pool.start("eat", slot, memory_mb=100))
        error = msgpack.unpackb(ended.payload)
        assert (ended.outcome, error["cap_mb"]) == (Outcome.MEMORY, 100)
        assert error["rss_mb"] < 200, "its own alone"

    with_pool(tmp_path, scenario)


def test_a_task_may_have_more_than_others(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        ended = await pool.ended(pool.start("child-eats", slot, {"mb": 350, "seconds": 0.5}, memory_mb=500))
        assert ended.outcome is Outcome.DONE
        assert (ended.peak_kb or 0) > 350 * 1024

    with_pool(tmp_path, scenario)


def test_a_program_below_it_counts_and_ends_with_it(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        order = pool.start("child-eats", slot, {"mb": 400})
        assert (await pool.ended(order)).outcome is Outcome.MEMORY
        await pool.down(slot.name)
        below = [process.pid for process in psutil.Process().children(recursive=True)]
        assert all(wait_gone(pid) for pid in below if "time.sleep(1000)" in command_line(pid))

    with_pool(tmp_path, scenario)


def test_several_coroutines_are_suspects_and_one_alone_is_the_culprit(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up(Kind.COROUTINE)
        neighbour = pool.start("awhoami", slot, {"seconds": 1000})
        hog = pool.start("aeat", slot)
        assert {(await pool.ended(order)).outcome for order in (neighbour, hog)} == {Outcome.SUSPECT}
        (other,) = await pool.up(Kind.COROUTINE)
        assert (await pool.ended(pool.start("aeat", other))).outcome is Outcome.MEMORY

    with_pool(tmp_path, scenario)


def test_all_workers_together(tmp_path: Path) -> None:
    """Above the limit for all it is said that no more should start, until there is less or nothing blocking runs."""

    async def scenario(pool: Pool) -> None:
        slots = await pool.up(count=2)
        greedy = pool.start("child-eats", slots[0], {"mb": 300})
        tight = await pool.until(lambda: pool.of(MemoryTight) or None)
        assert [fact.tight for fact in tight] == [True]
        pool.pool.cancel(greedy.task, greedy.token)
        await pool.ended(greedy)
        await pool.until(lambda: len(pool.of(MemoryTight)) == 2 or None)
        assert not pool.of(MemoryTight)[-1].tight

    with_pool(tmp_path, scenario, workers=2, limits=replace(LIMITS, memory_mb=1000, memory_total_mb=250), grace=0.5)
