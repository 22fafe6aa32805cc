"""The asyncio client against a scripted daemon. What both clients share is tested with the blocking one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from integration.ctl.ctlpeer import Body, Journal, Peer, Refuse, Silence, accept, seqs

from gemflowctl import AsyncClient, ConnectionLost, NoDaemon, RefusedByDaemon, ReplyTimeout


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def test_no_daemon(directory: Path) -> None:
    async def go() -> None:
        async with AsyncClient(f"ipc://{directory}/none.sock") as client:
            with pytest.raises(NoDaemon):
                await client.ping()

    run(go())


def test_many_coroutines_share_one_client(peer: Peer) -> None:
    line = {"number": 42, "type": "echo", "state": "succeeded", "ok": True, "result": 5}
    peer.answers |= {
        "show": lambda body: {"number": int(body["ref"])},
        "submit": accept,
        "wait": {"done": True, "total": 1, "ended": 1, "tasks": {"succeeded": 1}, "results": [line], "next": None},
        "results": {"results": [line], "next": None},
    }

    async def go() -> None:
        async with AsyncClient(peer.endpoint) as client:
            shown = await asyncio.gather(*(client.show(number) for number in range(200)))
            assert [task["number"] for task in shown] == list(range(200))
            task = await client.submit("echo", {"x": 1})
            assert (await task.result()).value == 5
            assert [result.number async for result in client.results("f7")] == [42]

    run(go())


def test_lost_replies_and_refusals(peer: Peer) -> None:
    answers = iter([Silence(), None])

    def lose_the_first(body: Body) -> Body:
        if problem := next(answers):
            raise problem
        return accept(body)

    def silence(_: Body) -> Body:
        raise Silence

    def refuse(_: Body) -> Body:
        raise Refuse("not_found", "no such task")

    peer.answers |= {"submit": lose_the_first, "retry": silence, "show": refuse}

    async def go() -> None:
        async with AsyncClient(peer.endpoint, reply_timeout=0.3) as client:
            assert (await client.submit("echo")).number == 42
            with pytest.raises(ReplyTimeout):
                await client.retry(42)
            with pytest.raises(RefusedByDaemon, match="no such task"):
                await client.show(42)

    run(go())
    assert peer.frames[0] == peer.frames[1]


def test_a_restart_in_the_middle_of_waits_is_survived(peer: Peer) -> None:
    ended = {"done": True, "total": 1, "ended": 1, "tasks": {"succeeded": 1}}
    restarted = False

    def wait(_: Body) -> Body:
        if not restarted:
            raise Silence
        return ended

    peer.answers["wait"] = wait

    async def go() -> None:
        nonlocal restarted
        async with AsyncClient(peer.endpoint) as client:
            await client.ping()
            waits = [asyncio.create_task(client.wait(number)) for number in (1, 2, 3)]
            await asyncio.to_thread(peer.await_request, "wait", 3)
            await asyncio.to_thread(peer.stop)
            restarted = True
            await asyncio.to_thread(peer.start)
            assert await asyncio.gather(*waits) == [ended] * 3
            assert await client.ping() == 1.0

    run(go())


def test_events_and_callbacks(peer: Peer) -> None:
    journal = Journal(peer)
    journal.add("task.ready", published=False)

    async def go() -> None:
        async with AsyncClient(peer.endpoint) as client:
            events = client.events(["task"], start=1)
            got = [await anext(events)]
            await asyncio.to_thread(peer.await_subscription)
            journal.add("task.ready", published=False)
            journal.add("task.ready")
            got += [await anext(events), await anext(events)]
            assert seqs(got) == [1, 2, 3]
            await events.aclose()  # type: ignore[attr-defined]
            heard: asyncio.Queue[Body] = asyncio.Queue()
            stop = client.on("stats", heard.put)
            while await asyncio.to_thread(peer.await_subscription) != b"\x01stats":
                pass
            peer.publish("stats", 0, [{"seq": None, "active": 3}])
            assert (await heard.get())["active"] == 3
            stop()

    run(go())


def test_closing_ends_what_still_waits(peer: Peer) -> None:
    def silence(_: Body) -> Body:
        raise Silence

    peer.answers["wait"] = silence

    async def go() -> None:
        async with AsyncClient(peer.endpoint) as client:
            waiting = asyncio.create_task(client.wait(1))
            await asyncio.to_thread(peer.await_request, "wait")
        with pytest.raises(ConnectionLost, match="closed"):
            await waiting

    run(go())
