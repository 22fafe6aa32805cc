"""Ends of workers and nurseries that are not the ordinary ones: each attempt is reported, once, and there are workers afterwards."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import wait_gone
from helpers.pools import Pool, local_pool

from gemflowd.executor.base import WorkerLimits
from gemflowd.executor.local import nursery_process
from gemflowd.executor.local import pool as pool_module
from gemflowd.model.attempt import Kind, Outcome
from gemflowd.model.facts import SlotDown, SlotStopping

Scenario = Callable[[Pool], Awaitable[None]]


def with_pool(path: Path, scenario: Scenario, **how: Any) -> None:
    async def go() -> None:
        async with local_pool(path, "greedy_tasks", **{"grace": 0.2, "slots": 3, **how}) as pool:
            await scenario(pool)

    asyncio.run(go())


async def works(pool: Pool, kind: Kind = Kind.BLOCKING) -> None:
    """There is a worker of that kind, and it does what it is handed."""
    slot = (await pool.up(kind))[-1]
    name = "whoami" if kind is Kind.BLOCKING else "awhoami"
    assert (await pool.ended(pool.start(name, slot))).outcome is Outcome.DONE


def test_a_signal_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_TOLD_WITHIN", 60.0)  # the nursery may be slow to say how it ended

    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        ended = await pool.ended(pool.start("signalled", slot, {"number": 35}))
        assert (ended.outcome, ended.cause) == (Outcome.CRASH, "signal 35")
        await works(pool)

    with_pool(tmp_path, scenario)


def test_a_nursery_that_dies_with_a_workers_death_untold(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        await works(pool)
        (nursery,) = pool.pool.nursery_pids
        os.kill(nursery, signal.SIGSTOP)
        os.kill(slot.pid, signal.SIGKILL)
        os.kill(nursery, signal.SIGKILL)
        await pool.down(slot.name)
        for kind in Kind:
            await works(pool, kind)
        assert all(worker.pid for worker in pool.pool.workers()), "none that nobody forks"

    with_pool(tmp_path, scenario)


def test_a_worker_whose_end_nobody_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its nursery is busy with an import, or hangs."""
    monkeypatch.setattr(pool_module, "_TOLD_WITHIN", 0.05)

    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        order = pool.start("whoami", slot, {"seconds": 1000})
        await pool.begun(order)
        (nursery,) = pool.pool.nursery_pids
        os.kill(nursery, signal.SIGSTOP)
        os.kill(slot.pid, signal.SIGKILL)
        assert (await pool.ended(order)).outcome is Outcome.CRASH
        os.kill(nursery, signal.SIGCONT)
        await works(pool)

    with_pool(tmp_path, scenario)


def test_no_process_can_be_started_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def fails_once(*arguments: Any, **how: Any) -> Any:
        monkeypatch.setattr(nursery_process.subprocess, "Popen", real)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        monkeypatch.setattr(nursery_process.subprocess, "Popen", fails_once)
        (nursery,) = pool.pool.nursery_pids
        os.kill(nursery, signal.SIGKILL)
        await pool.down(slot.name)
        await works(pool)

    with_pool(tmp_path, scenario)


def test_a_worker_that_was_retired_for_one_attempt_leaves_when_all_have_ended(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up(Kind.COROUTINE)
        until = tmp_path / "until"
        stubborn = pool.start("half-deaf", slot, {"until": str(until)})
        neighbour = pool.start("awhoami", slot, {"seconds": 0.5})
        for order in (stubborn, neighbour):
            await pool.begun(order)
        pool.pool.cancel(stubborn.task, stubborn.token)
        await pool.until(lambda: pool.of(SlotStopping) or None)
        until.touch()
        await pool.down(slot.name)
        assert pool.outcomes()[neighbour.task].outcome is Outcome.DONE
        await works(pool, Kind.COROUTINE)

    with_pool(tmp_path, scenario)


def test_a_worker_that_hangs_when_it_should_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREEDY_HANGS", "1")
    monkeypatch.setattr(pool_module, "_LEAVING", 0.2)

    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up(Kind.COROUTINE)
        pool.pool.restart()
        assert (await pool.down(slot.name)).cause == "it did not leave in time"
        await works(pool, Kind.COROUTINE)

    with_pool(tmp_path, scenario)


def test_a_dead_worker_whose_channel_somebody_holds(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up(Kind.COROUTINE)
        order = pool.start("forks", slot)
        await pool.begun(order)
        (nursery,) = pool.pool.nursery_pids
        os.kill(nursery, signal.SIGKILL)
        assert wait_gone(slot.pid)  # the loop stands still: when it comes to it the worker is gone, and its copy is not
        assert (await pool.ended(order)).outcome is Outcome.LOST
        await works(pool, Kind.COROUTINE)

    with_pool(tmp_path, scenario)


def test_outcomes_of_handlers_that_say_them_oddly(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up(Kind.COROUTINE)
        limited = await pool.ended(pool.start("odd-limit", slot))
        assert (limited.outcome, limited.retry_after) == (Outcome.RATE_LIMITED, None)
        inner = await pool.ended(pool.start("cancels-itself", slot))
        assert inner.outcome is Outcome.ERROR, "nobody has cancelled it"
        assert not pool.of(SlotDown)

    with_pool(tmp_path, scenario)


def test_a_worker_over_its_cap_between_two_tasks_gets_no_other(tmp_path: Path) -> None:
    """Whatever its minimum life: the next task would be killed for what the last one has left."""

    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        bloated = pool.start("leak", slot, {"mb": 300}, memory_mb=600)
        assert (await pool.ended(bloated)).outcome is Outcome.DONE
        next_one = pool.start("whoami", slot)
        assert next_one.task in pool.taken_back()
        await works(pool)

    limits = replace(WorkerLimits(), memory_mb=200, min_life=1000.0)
    with_pool(tmp_path, scenario, limits=limits)
