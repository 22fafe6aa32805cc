"""What handlers write, in every way there is, is in their task's log, before its outcome, and in no other one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgpack
import pytest
from helpers.pools import Pool, local_pool

from gemflowd.model.attempt import Ended, Kind, Outcome, Start
from gemflowd.model.facts import AttemptsEnded, LogLines
from gemflowd.worker.log import MAX_BYTES, MAX_LINE, MAX_LINES


def with_pool(path: Path, scenario: Callable[[Pool], Awaitable[None]], **how: object) -> None:
    async def go() -> None:
        async with local_pool(path, "talkative_tasks", **how) as pool:  # type: ignore[arg-type]
            await scenario(pool)

    asyncio.run(go())


def lines(pool: Pool, order: Start) -> list[tuple[str, str]]:
    """Its log as it was when its outcome came."""
    found: list[tuple[str, str]] = []
    for fact in pool.facts:
        if isinstance(fact, LogLines):
            found += [(stream, text) for task, _, _, stream, text in fact.lines if task == order.task]
        elif isinstance(fact, AttemptsEnded) and any(ended.task == order.task for ended in fact.ended):
            return found
    raise AssertionError("it has not ended")


async def run(
    pool: Pool, kind: str, worker: Kind = Kind.BLOCKING, /, **data: object
) -> tuple[Ended, list[tuple[str, str]]]:
    (slot,) = await pool.up(worker)
    order = pool.start(kind, slot, data)
    ended = await pool.ended(order)
    return ended, lines(pool, order)


WAYS = {
    "print": "stdout",
    "error": "stderr",
    "log": "log",
    "buffer": "stdout",
    "original": "stdout",
    "descriptor": "stdout",
    "descriptor2": "stderr",
    "logging": "stderr",
    "early": "stderr",
    "thread": "stdout",
    "program": "stdout",
    "c": "stdout",
    "unfinished": "stdout",
}


def test_every_way_to_write(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        for way, stream in WAYS.items():
            _, said = await run(pool, "say", how=[way])
            assert said == [(stream, f"{way} 0")], way
        _, said = await run(pool, "say", how=[*WAYS])
        in_python = [("stdout", "print 0"), ("stderr", "error 1"), ("log", "log 2"), ("stdout", "buffer 3")]
        assert said[:4] == in_python, "in order, where all of it is Python"
        assert {text for _, text in said} == {f"{way} {number}" for number, way in enumerate(WAYS)}
        _, said = await run(pool, "say", how=["fork", "surrogate", "bar"])
        assert sorted(said) == sorted(
            [("stdout", "fork 0"), ("stderr", "fork 0 log"), ("stdout", "? end"), ("stdout", "100 %")]
        )
        _, said = await run(pool, "say", how=["binary"])
        assert ("stdout", "\ufffd\ufffd\0 end") in said

    with_pool(tmp_path, scenario)


@pytest.mark.parametrize("way", ["close", "replace", "close-python"])
def test_a_handler_that_takes_the_descriptors_away_takes_them_from_nobody_else(tmp_path: Path, way: str) -> None:
    async def scenario(pool: Pool) -> None:
        first, _ = await run(pool, "say", how=[way, "print"])
        second, said = await run(pool, "say", how=["descriptor", "descriptor2", "print", "program"])
        assert sorted(said) == [
            ("stderr", "descriptor2 1"),
            ("stdout", "descriptor 0"),
            ("stdout", "print 2"),
            ("stdout", "program 3"),
        ]
        assert first.payload == second.payload, "the same worker"

    with_pool(tmp_path, scenario)


def test_what_a_child_writes_after_its_attempt_is_not_the_next_one_s(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        until = tmp_path / "until"
        _, said = await run(pool, "leave-child", until=str(until))
        (slot,) = await pool.up()
        order = pool.start("say", slot, {"how": ["descriptor", "print"]})
        until.touch()
        await pool.ended(order)
        _, after = await run(pool, "say", how=["descriptor"])
        assert sorted(lines(pool, order)) == [("stdout", "descriptor 0"), ("stdout", "print 1")]
        assert after == [("stdout", "descriptor 0")]
        assert said in ([], [("stdout", "child begins")])

    with_pool(tmp_path, scenario)


def test_a_forked_copy_of_a_handler_does_not_end_its_attempt(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        for _ in range(3):
            ended, _ = await run(pool, "return-twice")
            assert msgpack.unpackb(ended.payload) == "the original"

    with_pool(tmp_path, scenario)


@pytest.mark.parametrize("how", ["print", "descriptor"])
def test_a_flood_is_cut_and_told(tmp_path: Path, how: str) -> None:
    async def scenario(pool: Pool) -> None:
        ended, said = await run(pool, "flood", how=how, megabytes=20, width=200)
        assert ended.outcome is Outcome.DONE
        assert sum(len(text) for _, text in said[:-2]) <= MAX_BYTES
        assert len(said) < MAX_LINES
        assert "the log is full" in said[-2][1]
        total = 20 * (1_000_000 // 200 + 1)
        assert said[-1] == ("log", f"[{total - len(said) + 2} lines more were not kept]")
        _, said = await run(pool, "flood", how=how, megabytes=1, width=600_000)
        assert {len(text) for _, text in said} == {MAX_LINE + len(" […]")}
        assert len(said) == 2
        _, said = await run(pool, "say", how=["print"])
        assert said == [("stdout", "print 0")]

    with_pool(tmp_path, scenario)


@pytest.mark.parametrize("how", ["segfault", "SIGKILL"])
def test_a_crash_keeps_what_was_written(tmp_path: Path, how: str) -> None:
    async def scenario(pool: Pool) -> None:
        ended, said = await run(pool, "crash", how=how)
        assert ended.outcome is Outcome.CRASH
        assert said[0] == ("stdout", "before in Python")
        assert ("stdout", "before by descriptor") in said
        if how == "segfault":
            assert any("Segmentation fault" in text for _, text in said)
            assert any("talkative_tasks.py" in text and text.endswith("in crash") for _, text in said)

    with_pool(tmp_path, scenario)


def test_c_code_that_keeps_the_interpreter_s_lock_does_not_hang_in_front_of_a_full_pipe(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        ended, said = await run(pool, "hold-the-lock", kilobytes=200)
        assert ended.outcome is Outcome.DONE
        assert sum(text.count("y") for _, text in said) == 200 * 1023

    with_pool(tmp_path, scenario)


def test_what_it_writes_is_seen_at_once_and_kept_when_it_is_killed(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up()
        order = pool.start("hold-the-lock", slot, {"kilobytes": 2, "seconds": 60})
        await pool.begun(order)  # while the lock is kept
        pool.pool.cancel(order.task, order.token)
        assert (await pool.ended(order)).outcome is Outcome.CANCELLED
        assert [text[:3] for _, text in lines(pool, order)] == ["yyy", "yyy"]

    with_pool(tmp_path, scenario, grace=0.5)


def test_coroutines_do_not_write_into_each_other_s_logs(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        (slot,) = await pool.up(Kind.COROUTINE)
        orders = {name: pool.order("asay", slot, {"name": name, "lines": 5}) for name in "abcdef"}
        pool.pool.start(list(orders.values()))
        for name, order in orders.items():
            await pool.ended(order)
            said = lines(pool, order)
            numbered = [(s, f"{name}{kind} {n}") for n in range(5) for s, kind in _KINDS]
            rest = [("stdout", "child"), ("stdout", "thread"), ("stderr", "early"), ("stdout", "unfinished")]
            assert said == numbered + [(stream, f"{name} {text}") for stream, text in rest]

    with_pool(tmp_path, scenario, slots=10)


_KINDS = (("stdout", ""), ("stderr", " error"), ("log", " log"))


def test_a_crash_of_a_coroutine_is_in_its_log(tmp_path: Path) -> None:
    async def scenario(pool: Pool) -> None:
        ended, said = await run(pool, "acrash", Kind.COROUTINE)
        assert ended.outcome is Outcome.CRASH
        assert said[0] == ("stdout", "before in Python")
        assert any(text.endswith("in acrash") for _, text in said)

    with_pool(tmp_path, scenario)
