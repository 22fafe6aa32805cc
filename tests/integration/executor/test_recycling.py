"""Workers are replaced by tasks, age, memory, on request and by new code; nothing that runs is lost, and one of a kind at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from helpers.pools import Pool, local_pool

from gemflowd.executor.base import WorkerLimits
from gemflowd.executor.local.options import Options
from gemflowd.model.attempt import Ended, Kind, Outcome, Start
from gemflowd.model.errors import ConfigError
from gemflowd.model.facts import AttemptsEnded, SlotDown, SlotStopping, SlotUp

Scenario = Callable[[Pool], Awaitable[None]]
AT_ONCE = WorkerLimits(min_life=0.0)


def with_pool(path: Path, scenario: Scenario, **how: object) -> None:
    async def go() -> None:
        async with local_pool(path, "greedy_tasks", **how) as pool:  # type: ignore[arg-type]
            await scenario(pool)

    asyncio.run(go())


def pid_of(ended: Ended) -> int:
    assert ended.outcome is Outcome.DONE, msgpack.unpackb(ended.payload)
    return int(msgpack.unpackb(ended.payload))


def least_capacity(pool: Pool, kind: Kind, most: int) -> int:
    """The fewest workers that took attempts at any moment since all were there."""
    up: set[str] = set()
    least = most
    complete = False
    for fact in pool.facts:
        if isinstance(fact, SlotUp) and fact.kind is kind:
            up.add(fact.name)
        elif isinstance(fact, SlotStopping | SlotDown):
            up.discard(fact.name)
        complete = complete or len(up) == most
        if complete:
            least = min(least, len(up))
    return least


def test_after_so_many_tasks(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        pids = []
        for _ in range(13):
            (slot,) = await pool.up()
            pids.append(pid_of(await pool.ended(pool.start("whoami", slot))))
        counts = {pid: pids.count(pid) for pid in pids}
        assert len(counts) >= 2
        assert min(list(counts.values())[:-1]) >= 4, counts  # later ones may have to wait until the one before is gone
        assert next(iter(counts.values())) == 4

    with_pool(tmp_path, scenario, limits=replace(AT_ONCE, max_tasks=4))


def test_the_slot_is_given_up_before_the_outcome_is_reported(tmp_path: Path) -> None:
    """Else the next task would be placed on a worker that leaves."""

    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        await pool.ended(pool.start("whoami", slot))
        kinds = [type(fact) for fact in pool.facts if isinstance(fact, SlotStopping | AttemptsEnded)]
        assert kinds == [SlotStopping, AttemptsEnded]

    with_pool(tmp_path, scenario, limits=replace(AT_ONCE, max_tasks=1))


def test_at_a_certain_age_also_without_a_task(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        first = (await pool.up(count=2))[0]
        down = await pool.down(first.name)
        assert "s old" in (down.cause or "")

    with_pool(tmp_path, scenario, workers=2, limits=replace(AT_ONCE, max_age=0.2))


def test_not_before_its_minimum_life(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        for _ in range(5):
            await pool.ended(pool.start("whoami", slot))
        assert not pool.of(SlotStopping)

    with_pool(tmp_path, scenario, limits=WorkerLimits(max_tasks=1, min_life=1000.0))


def test_what_a_task_has_left_in_memory_ends_the_worker_and_no_task(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        first = pid_of(await pool.ended(pool.start("leak", slot, {"mb": 250})))
        down = await pool.down(slot.name)
        assert "MB after a task" in (down.cause or "")
        (other,) = await pool.up()
        assert pid_of(await pool.ended(pool.start("whoami", other))) != first

    with_pool(tmp_path, scenario, limits=replace(AT_ONCE, memory_mb=300))


def test_all_are_replaced_on_request_one_at_a_time_and_running_tasks_finish(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        slots = await pool.up(count=3)
        coroutines = (await pool.up(Kind.COROUTINE))[0]
        busy = pool.start("whoami", slots[0], {"seconds": 0.3})
        call = pool.start("awhoami", coroutines, {"seconds": 0.3})
        for order in (busy, call):
            await pool.begun(order)
        assert pool.pool.restart() == 4
        for slot in (*slots, coroutines):
            await pool.down(slot.name)
        assert [(await pool.ended(order)).outcome for order in (busy, call)] == [Outcome.DONE] * 2
        await pool.up(count=3)
        await pool.up(Kind.COROUTINE)
        assert least_capacity(pool, Kind.BLOCKING, 3) == 2

    with_pool(tmp_path, scenario, workers=3, slots=2)


def write_code(path: Path, answer: str, name: str = "answer") -> None:
    text = f'from gemflowd.handlers.registry import task\n\n@task("{name}")\ndef answer(data, context):\n    return "{answer}"\n'
    module = path / "changing_tasks.py"
    module.write_text(text)


def options_for(pool: Pool) -> Options:
    return pool.pool._options


async def answer(pool: Pool, slot: SlotUp) -> str:
    return str(msgpack.unpackb((await pool.ended(pool.start("answer", slot))).payload))


def test_new_code_takes_the_place_of_old_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # two versions within a second look the same to a cache
    write_code(tmp_path, "old")

    async def go() -> None:
        async with local_pool(tmp_path, "changing_tasks", "greedy_tasks") as pool:
            (slot,) = await pool.up()
            assert await answer(pool, slot) == "old"
            until = tmp_path / "until"
            running: Start = pool.start("whoami", slot, {"until": str(until)})
            await pool.begun(running)
            old = pool.pool.nursery_pids
            write_code(tmp_path, "new")
            catalogue = await pool.pool.reload(options_for(pool))
            assert "answer" in {info.type for info in catalogue}
            assert len(pool.pool.nursery_pids) == 2, "the old one stays as long as a worker of it"
            until.touch()
            assert (await pool.ended(running)).outcome is Outcome.DONE
            await pool.down(slot.name)
            (other,) = await pool.up()
            assert await answer(pool, other) == "new"
            await pool.until(lambda: not pool.slots_up() or not (old & pool.pool.nursery_pids))
            assert not old & pool.pool.nursery_pids

    asyncio.run(go())


def test_code_that_can_not_be_imported_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    write_code(tmp_path, "old")

    async def go() -> None:
        async with local_pool(tmp_path, "changing_tasks") as pool:
            (slot,) = await pool.up()
            (tmp_path / "changing_tasks.py").write_text("import there_is_no_such_module")
            with pytest.raises(ConfigError, match="there_is_no_such_module"):
                await pool.pool.reload(options_for(pool))
            assert await answer(pool, slot) == "old"
            assert len(pool.pool.nursery_pids) == 1
            assert not pool.of(SlotStopping)

    asyncio.run(go())


def test_a_type_that_went_is_given_back_by_workers_that_do_not_know_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    write_code(tmp_path, "old")

    async def go() -> None:
        async with local_pool(tmp_path, "changing_tasks") as pool:
            (slot,) = await pool.up()
            write_code(tmp_path, "new", name="other")
            await pool.pool.reload(options_for(pool))
            await pool.down(slot.name)
            (other,) = await pool.up()
            order = pool.start("answer", other)
            assert order.task in pool.taken_back()

    asyncio.run(go())


def test_coroutine_workers_come_as_slots_are_used(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (first,) = await pool.up(Kind.COROUTINE)
        assert first.size == 500
        orders = [pool.order("awhoami", first, {"seconds": 0.5}) for _ in range(first.size)]
        pool.pool.start(orders)
        assert len(await pool.up(Kind.COROUTINE, count=4)) == 4
        assert len({pid_of(await pool.ended(order)) for order in orders}) == 1

    with_pool(tmp_path, scenario, slots=2000)
