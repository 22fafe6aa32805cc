"""Requests of attempts: what the worker sends and waits for, and what the pool lets through."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import msgpack
import pytest

from gemflowd.executor.local import attempts as attempts_module
from gemflowd.executor.local.attempts import Attempts
from gemflowd.executor.local.crew import Handed, Worker
from gemflowd.handlers.errors import RequestRefused
from gemflowd.model.attempt import Kind, Start
from gemflowd.worker import wire
from gemflowd.worker.context import AsyncContext, Context
from gemflowd.worker.requests import Asker, AsyncAsker, Requests


class Daemon:
    """The other end of the channel: answers when it is told to."""

    def __init__(self) -> None:
        self.sent: list[list[Any]] = []
        self.requests = Requests(self.sent.append)

    def answer(self, number: int, body: dict[str, Any], granted: bool = True) -> None:
        self.requests.answered(number, granted, msgpack.packb(body))


def test_a_blocking_handler_waits_for_its_answer() -> None:
    daemon = Daemon()

    def send(message: list[Any]) -> None:
        threading.Timer(0.01, daemon.answer, (message[1], {"op": message[4], **msgpack.unpackb(message[5])})).start()

    daemon.requests = Requests(send)
    assert Asker(daemon.requests, 3, 4)("memory_get", {"key": "a"}) == {"op": "memory_get", "key": "a"}


def test_a_refusal_is_raised() -> None:
    requests = Requests(lambda message: None)
    answers = iter([{"code": "not_found", "message": "no", "path": "key"}, {"code": "overloaded", "message": "no"}])
    requests = Requests(lambda message: requests.answered(message[1], False, msgpack.packb(next(answers))))
    for code, path in (("not_found", "key"), ("overloaded", None)):
        with pytest.raises(RequestRefused) as refused:
            Asker(requests, 3, 4)("memory_get", {})
        assert (refused.value.code, refused.value.message, refused.value.path) == (code, "no", path)


@pytest.mark.parametrize(
    ("value", "code"), [(object(), "wrong_type"), (2**70, "wrong_type"), (b"x" * wire.MAX_REQUEST, "frame_too_large")]
)
def test_what_can_not_be_sent_is_refused_here(value: object, code: str) -> None:
    daemon = Daemon()
    with pytest.raises(RequestRefused) as refused:
        Asker(daemon.requests, 3, 4)("memory_set", {"value": value})
    assert refused.value.code == code
    assert daemon.sent == []


def test_coroutines_wait_when_too_many_are_unanswered() -> None:
    async def run() -> None:
        daemon = Daemon()
        ask = AsyncAsker(daemon.requests, 3, 4)
        asking = [asyncio.create_task(ask("memory_get", {"n": n})) for n in range(100)]
        await asyncio.sleep(0)
        assert len(daemon.sent) == wire.MOST_REQUESTS
        asking[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking[0]
        await asyncio.sleep(0)
        assert len(daemon.sent) == wire.MOST_REQUESTS, "the daemon still owes that answer"
        for number in range(1, 101):
            daemon.answer(number, {"n": number - 1})
            while len(daemon.sent) < min(100, wire.MOST_REQUESTS + number):
                await asyncio.sleep(0)
        assert [(await done)["n"] for done in asking[1:]] == list(range(1, 100))
        daemon.answer(1, {})  # a second time: nobody waits

    asyncio.run(run())


def test_an_answer_to_a_loop_that_is_gone_is_dropped() -> None:
    daemon = Daemon()

    async def run() -> None:
        asking = asyncio.create_task(AsyncAsker(daemon.requests, 3, 4)("memory_get", {}))
        await asyncio.sleep(0)
        asking.cancel()

    asyncio.run(run())
    daemon.answer(1, {})


def test_the_context_asks_in_the_protocol_s_words() -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def ask(op: str, body: dict[str, Any]) -> dict[str, Any]:
        asked.append((op, body))
        if op == "memory_get" and body["key"] == "none":
            raise RequestRefused("not_found", "no")
        page = {"items": [{"key": "k"}] * min(2, body.get("limit", 0)), "next": None if body.get("after") else "k"}
        return {"value": 5, "version": 9, "deleted": True, "flow": 1, **page}

    context = Context(1, 1, None, "t", 1, 1.0, {}, {}, lambda *_: None, _ask=ask)
    assert context.memory.get("a") == 5
    assert context.memory.get("none", 3) == 3
    assert context.memory.entry("none") is None
    assert context.memory.set("a", None, 1.5, 0, "n") == 9
    assert context.memory.delete("a", version=2) is True
    assert len(context.memory.list("p")) == 4
    assert len(context.memory.list(limit=3)) == 3
    context.submit([{"type": "echo"}], step="one")
    assert asked[3] == ("memory_set", {"namespace": "n", "key": "a", "value": None, "ttl": 1.5, "version": 0})
    op, body = asked[-1]
    assert (op, body["tasks"], body["grow"]) == ("submit", [{"type": "echo"}], {"step": "one"})
    assert [body["limit"] for op, body in asked if op == "memory_list"] == [1000, 1000, 3, 1]

    async def later(op: str, body: dict[str, Any]) -> dict[str, Any]:
        return ask(op, body)

    async def run() -> None:
        context = AsyncContext(1, 1, None, "t", 1, 1.0, {}, {}, lambda *_: None, _ask=later)
        assert await context.memory.get("none", 3) == 3
        assert await context.memory.set("a", 1) == 9
        assert await context.memory.delete("a") is True
        assert len(await context.memory.list(values=True)) == 4
        assert (await context.submit([{"type": "echo"}]))["flow"] == 1

    asyncio.run(run())


# The pool's side


class FakeChannel:
    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.backlog = 0

    def send(self, message: Any) -> None:
        self.sent.append(message)


class Asked:
    """What the pool handed on, to be answered later."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []

    def __call__(self, *request: Any) -> None:
        self.all.append(request)


def make_attempts() -> tuple[Attempts, Worker, FakeChannel, Asked, asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    asked, channel = Asked(), FakeChannel()
    worker = Worker("b1", Kind.BLOCKING, 1, -1, cast(Any, channel), cast(Any, None), 1.0, cast(Any, None))
    attempts = Attempts(loop, {"b1": worker}, lambda fact: None, asked, lambda: 1.0, lambda _: None, lambda _: None)
    order = Start(5, 6, 1, 1, None, "echo", "b1", b"", None, 1.0)
    worker.handed[5, 6] = Handed(order, 0.0)
    return attempts, worker, channel, asked, loop


def codes(channel: FakeChannel) -> list[Any]:
    return [(m[1], m[2] or msgpack.unpackb(m[3])["code"]) for m in channel.sent if m[0] == wire.REPLY]


def test_the_pool_hands_on_what_the_live_attempt_asks() -> None:
    attempts, worker, channel, asked, loop = make_attempts()
    attempts.said(worker, [[wire.REQUEST, 1, 5, 6, "any-word", b"body"]])
    *request, take = asked.all[0]
    assert request == [5, 6, "any-word", b"body"]
    take(True, b"answer")
    assert channel.sent == [[wire.REPLY, 1, True, b"answer"]]
    loop.close()


def test_an_attempt_that_is_not_live_is_stale() -> None:
    attempts, worker, channel, asked, loop = make_attempts()
    attempts.said(worker, [[wire.REQUEST, 1, 5, 5, "submit", b""], [wire.REQUEST, 2, 4, 6, "submit", b""]])
    assert codes(channel) == [(1, "stale_attempt"), (2, "stale_attempt")]
    assert asked.all == []
    loop.close()


def test_only_so_many_requests_may_be_unanswered() -> None:
    attempts, worker, channel, asked, loop = make_attempts()
    for number in range(wire.MOST_REQUESTS + 2):
        attempts.said(worker, [[wire.REQUEST, number, 5, 6, "memory_get", b""]])
    assert len(asked.all) == wire.MOST_REQUESTS
    assert [code for _, code in codes(channel)] == ["overloaded"] * 2
    asked.all[0][-1](True, b"")
    attempts.said(worker, [[wire.REQUEST, 99, 5, 6, "memory_get", b""]])
    assert len(asked.all) == wire.MOST_REQUESTS + 1
    channel.backlog = attempts_module._MOST_UNREAD + 1
    asked.all[1][-1](True, b"")
    attempts.said(worker, [[wire.REQUEST, 100, 5, 6, "memory_get", b""]])
    assert codes(channel)[-1] == (100, "overloaded")
    loop.close()


def test_what_the_daemon_takes_for_its_answers_is_no_running_time(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts, worker, channel, asked, loop = make_attempts()
    now = 0.0
    monkeypatch.setattr(attempts_module.time, "monotonic", lambda: now)

    def cancelled_at(moment: float) -> bool:
        nonlocal now
        now = moment
        attempts._deadlines()
        return [wire.CANCEL, 5, 6] in channel.sent

    now = 0.4
    attempts.said(worker, [[wire.REQUEST, 1, 5, 6, "any-word", b""]])
    now = 0.5  # the two overlap: the time counts once
    attempts.said(worker, [[wire.REQUEST, 2, 5, 6, "any-word", b""]])
    asked.all[0][-1](True, b"")
    assert not cancelled_at(100.0)
    now = 200.4
    asked.all[1][-1](True, b"")
    assert not cancelled_at(200.9)
    assert cancelled_at(201.1)
    loop.close()
