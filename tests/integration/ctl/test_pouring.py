"""Submitting while reading: chunks in their order, breaks, what is wrong in the middle, and streams that run at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from integration.ctl.ctlpeer import Body, Peer, Refuse, accept

from gemflowctl import AsyncClient, Client, InvalidInput, RefusedByDaemon

UUID = "0b9f2d3e-7a39-4a34-8f1a-5f5a1f0f0a11"


class Store:
    """Takes chunks as a daemon does: at the offset where it stands, or not at all."""

    def __init__(self, peer: Peer, received: int = 0, *, known: bool = False) -> None:
        self.received = received
        self.known = known
        self.state = "open"
        self.refusals: dict[int, Refuse] = {}
        peer.answers |= {"submit": self._submit, "submission": self._submission, "discard": self._discard}

    def _submit(self, body: Body) -> Body:
        offset = body.get("offset", 0)
        if self.state != "open":
            raise Refuse("submission_closed", "it is complete")
        if offset != self.received:
            raise Refuse("submission_offset", f"the daemon has {self.received} tasks")
        if refusal := self.refusals.pop(offset, None):
            raise refusal
        self.known = True
        self.received += len(body["tasks"])
        if body.get("complete", True):
            self.state = "active"
        return accept(body)

    def _submission(self, _: Body) -> Body:
        if not self.known:
            raise Refuse("not_found", "no such submission")
        return {"flow": 7, "state": self.state, "received": self.received}

    def _discard(self, _: Body) -> Body:
        if not self.known:
            raise Refuse("not_found", "no such submission")
        self.known = False
        self.received = 0
        return {"flow": 7}


def tasks(count: int, bad: int | None = None) -> Iterator[Body]:
    for number in range(count):
        if number == bad:
            raise InvalidInput("that line is wrong")
        yield {"type": "echo", "id": number}


def sent(peer: Peer) -> list[tuple[int | None, int, bool | None]]:
    return [(body.get("offset"), len(body["tasks"]), body.get("complete")) for body in peer.bodies("submit")]


def test_tasks_go_in_chunks_as_they_come(peer: Peer) -> None:
    Store(peer)
    seen: list[int] = []
    with Client(peer.endpoint) as client:
        flow = client.submit_from(tasks(2500), name="many", weight=2.0, progress=seen.append)
    assert (flow.number, flow.count, "first" in flow.reply) == (7, 2500, False)
    assert sent(peer) == [(0, 1000, False), (1000, 1000, False), (2000, 500, True)]
    assert seen == [1000, 2000, 2500]
    assert {(body["name"], body["weight"]) for body in peer.bodies("submit")} == {("many", 2.0)}
    assert [task["id"] for body in peer.bodies("submit") for task in body["tasks"]] == list(range(2500))


def test_few_are_one_simple_request(peer: Peer) -> None:
    Store(peer)
    with Client(peer.endpoint) as client:
        flow = client.submit_from(tasks(3))
    assert sent(peer) == [(None, 3, None)]
    assert (flow.count, flow.first_number()) == (3, 42)


def test_it_is_sent_before_all_is_read_and_little_is_held(peer: Peer) -> None:
    Store(peer)
    read = 0

    def counted() -> Iterator[Body]:
        nonlocal read
        for task in tasks(20_000):
            read += 1
            yield task

    ahead: list[int] = []
    with Client(peer.endpoint) as client:
        client.submit_from(counted(), progress=lambda received: ahead.append(read - received))
    assert max(ahead) <= 2001


def test_the_same_in_asyncio(peer: Peer) -> None:
    store = Store(peer)

    async def go() -> None:
        async with AsyncClient(peer.endpoint) as client:
            assert (await client.submit_from(tasks(2500))).count == 2500
            store.__init__(peer)  # type: ignore[misc]
            with pytest.raises(InvalidInput) as caught:
                await client.submit_from(tasks(2500, bad=2400))
            assert caught.value.details["discarded"] is True
            assert await client.ping() == 1.0

    asyncio.run(asyncio.wait_for(go(), 60))


def test_going_on_skips_what_was_received(peer: Peer) -> None:
    Store(peer, 1500, known=True)
    with Client(peer.endpoint) as client:
        flow = client.submit_from(tasks(2600), submission=UUID)
    assert sent(peer) == [(1500, 1000, False), (2500, 100, True)]
    assert peer.bodies("submit")[0]["tasks"][0]["id"] == 1500
    assert flow.count == 2600


def test_going_on_with_nothing_left_completes_it(peer: Peer) -> None:
    Store(peer, 2600, known=True)
    with Client(peer.endpoint) as client:
        assert client.submit_from(tasks(2600), submission=UUID).count == 2600
    assert sent(peer) == [(2600, 0, True)]


def test_going_on_with_what_is_complete_sends_nothing(peer: Peer) -> None:
    store = Store(peer, 2600, known=True)
    store.state = "succeeded"
    with Client(peer.endpoint) as client:
        flow = client.submit_from(tasks(2600), submission=UUID)
    assert (flow.repeated, flow.count) == (True, 2600)
    assert sent(peer) == []


def test_of_a_stream_only_a_chunk_tells_that_it_is_complete(peer: Peer) -> None:
    store = Store(peer, 2600, known=True)
    store.state = "active"
    with Client(peer.endpoint) as client:
        flow = client.submit_from(tasks(2600), submission=UUID, stream=True)
        assert (flow.repeated, flow.number, flow.count) == (True, 7, 2600)
        assert client.submit_batch(list(tasks(2600)), submission=UUID, stream=True).repeated
        with pytest.raises(RefusedByDaemon) as caught:
            client.submit_from(tasks(2601), submission=UUID, stream=True)
    assert caught.value.code == "submission_closed"


def test_other_input_than_before_is_noticed(peer: Peer) -> None:
    Store(peer, 2600, known=True)
    with Client(peer.endpoint) as client, pytest.raises(InvalidInput, match="same input"):
        client.submit_from(tasks(10), submission=UUID)
    assert "discard" not in peer.ops()


def test_what_is_wrong_in_the_middle_discards_it(peer: Peer) -> None:
    store = Store(peer)
    with Client(peer.endpoint) as client, pytest.raises(InvalidInput, match="that line is wrong") as caught:
        client.submit_from(tasks(5000, bad=3500))
    assert caught.value.details == {
        "submission": peer.bodies("submit")[0]["submission"],
        "received": 3000,
        "discarded": True,
    }
    assert peer.ops()[-1] == "discard"
    assert not store.known


def test_what_is_wrong_at_once_sends_nothing(peer: Peer) -> None:
    Store(peer)
    with Client(peer.endpoint) as client:
        for wrong in (tasks(5, bad=3), iter([{"data": {"x": {1}}}]), iter([])):
            with pytest.raises(InvalidInput):
                client.submit_from(wrong)
    assert set(peer.ops()) == {"hello"}


def test_an_error_of_the_caller_s_own_discards_it_too(peer: Peer) -> None:
    store = Store(peer)

    def failing() -> Iterator[Body]:
        yield from tasks(2500)
        raise OSError("the disk is on fire")

    with Client(peer.endpoint) as client, pytest.raises(OSError, match="fire"):
        client.submit_from(failing())
    assert not store.known


def test_a_stream_runs_at_once_and_keeps_what_was_sent(peer: Peer) -> None:
    store = Store(peer)
    with Client(peer.endpoint) as client, pytest.raises(InvalidInput) as caught:
        client.submit_from(tasks(5000, bad=3500), stream=True)
    assert {body["stream"] for body in peer.bodies("submit")} == {True}
    assert "discarded" not in caught.value.details
    assert "discard" not in peer.ops()
    assert store.received == 3000


def test_a_refusal_names_the_task_as_it_was_read(peer: Peer) -> None:
    store = Store(peer, 500, known=True)
    store.refusals[1500] = Refuse("unknown_dependency", "there is no 'x'", "tasks[5].deps[0]")
    with Client(peer.endpoint) as client, pytest.raises(RefusedByDaemon) as caught:
        client.submit_from(tasks(5000), submission=UUID)
    assert (caught.value.code, caught.value.path) == ("unknown_dependency", "tasks[1505].deps[0]")


def test_a_wrong_offset_makes_the_client_go_back_to_where_the_daemon_is(peer: Peer) -> None:
    store = Store(peer)

    def half_then_lost(body: Body) -> Body:
        if body["offset"] == 1000 and not peer.bodies("submission"):
            store.received = 1300  # it has a part of that chunk, however that came about
            raise Refuse("submission_offset", "the daemon has 1300 tasks")
        return store._submit(body)

    peer.answers["submit"] = half_then_lost
    with Client(peer.endpoint) as client:
        assert client.submit_from(tasks(3500)).count == 3500
    assert store.received == 3500
    assert (1300, 700, False) in sent(peer)


def test_a_daemon_that_lost_it_ends_it(peer: Peer) -> None:
    store = Store(peer)
    store.refusals[1000] = Refuse("submission_offset", "the daemon has 0 tasks")

    def forget(body: Body) -> Body:
        try:
            return store._submit(body)
        except Refuse:
            store.received = 0
            raise

    peer.answers["submit"] = forget
    with Client(peer.endpoint) as client, pytest.raises(RefusedByDaemon) as caught:
        client.submit_from(tasks(3500))
    assert caught.value.code == "submission_offset"
    assert store.received == 0


def test_a_refused_chunk_of_a_batch_that_streams_names_its_task(peer: Peer) -> None:
    store = Store(peer)
    store.refusals[1000] = Refuse("invalid_data", "no", "tasks[5].data")
    batch: list[dict[str, Any]] = list(tasks(2500))
    with Client(peer.endpoint) as client, pytest.raises(RefusedByDaemon) as caught:
        client.submit_batch(batch, stream=True, submission=UUID)
    assert caught.value.path == "tasks[1005].data"
    with Client(peer.endpoint) as client:
        assert client.submit_batch(batch, stream=True, submission=UUID).count == 2500
    assert sent(peer)[-2:] == [(1000, 1000, False), (2000, 500, True)]
