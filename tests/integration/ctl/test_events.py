"""Events against a scripted publisher: none missing, none twice, across a subscription that comes late, drops and a restart."""

from __future__ import annotations

import queue
from typing import Any

import pytest
from integration.ctl.ctlpeer import Body, Journal, Peer, seqs

from gemflowctl import Client


@pytest.fixture
def journal(peer: Peer) -> Journal:
    return Journal(peer)


def test_stored_events_are_read_in_pages(peer: Peer, journal: Journal) -> None:
    for number in range(5):
        journal.add("task.ready" if number % 2 else "flow.active", published=False)
    with Client(peer.endpoint) as client:
        assert seqs(list(client.events(start=2, follow=False))) == [2, 3, 4, 5]
        assert seqs(list(client.events(["flow"], follow=False))) == [1, 3, 5]


def test_following_catches_up_fills_gaps_and_repeats_nothing(peer: Peer, journal: Journal) -> None:
    for _ in range(3):
        journal.add("task.ready", published=False)
    with Client(peer.endpoint) as client:
        events = client.events(["task"], start=2)
        got = [next(events), next(events)]
        peer.await_subscription()
        journal.add("task.ready")
        got.append(next(events))
        journal.add("task.running", published=False)
        journal.add("task.ready", published=False)
        journal.add("task.ready")  # its ordinal tells that one is missing
        got += [next(events), next(events)]
        journal.add("task.running")
        got += [next(events), next(events)]
        events.close()  # type: ignore[attr-defined]
    assert seqs(got) == [2, 3, 4, 6, 7, 5, 8]


def test_what_was_dropped_last_is_found_when_it_gets_quiet(peer: Peer, journal: Journal) -> None:
    with Client(peer.endpoint) as client:
        events = client.events(["worker"])
        follower: queue.Queue[Body] = queue.Queue()
        journal.peer.answers["subscribe"] = _then(journal, lambda: journal.add("worker", published=False))
        follower.put(next(events))
        events.close()  # type: ignore[attr-defined]
    assert follower.get()["seq"] == 1


def _then(journal: Journal, happens: Any) -> Any:
    """Answer `subscribe` once, after which something happens that is not published."""

    def answer(body: Body) -> Body:
        reply = journal._subscribe(body)
        journal.peer.answers["subscribe"] = journal._subscribe
        happens()
        return reply

    return answer


def test_a_restarted_daemon_is_compared_with(peer: Peer, journal: Journal) -> None:
    journal.add("worker", published=False)
    with Client(peer.endpoint) as client:
        events = client.events(["worker"], start=1)
        got = [next(events)]
        peer.await_subscription()
        journal.add("worker", published=False)
        journal.epoch = 2
        journal.add("worker")
        got += [next(events), next(events)]
        events.close()  # type: ignore[attr-defined]
    assert seqs(got) == [1, 2, 3]


def test_what_is_gone_is_told_once_with_its_numbers(peer: Peer, journal: Journal) -> None:
    with Client(peer.endpoint) as client:
        events = client.events(["task", "flow"])
        journal.add("task.ready", published=False)
        journal.add("flow.active", published=False)
        peer.answers["subscribe"] = _then(journal, lambda: journal.add("task.ready", published=False))
        got = [next(events)]
        peer.await_subscription()
        peer.await_subscription()
        # We have arrived at 3. Much happens that we do not get, and most of it is deleted.
        for topic in ("task.ready", "worker", "task.running", "task.ready", "flow.active", "worker"):
            journal.add(topic, published=False)
        journal.first_kept = 9
        journal.add("task.running")
        got += [next(events), next(events)]
        journal.add("task.running")
        got.append(next(events))
        journal.add("flow.active")
        got += [next(events), next(events)]
        events.close()  # type: ignore[attr-defined]
    assert got[0]["seq"] == 3
    assert got[1] == {"topic": "missed", "first": 4, "last": 8, "topics": {"task.running": 1}}
    assert seqs(got[2:4]) == [10, 11]
    assert got[4] == {"topic": "missed", "first": 4, "last": 8, "topics": {"flow.active": 1}}
    assert got[5]["seq"] == 12


def test_topics_that_fell_behind_together_are_told_together(peer: Peer, journal: Journal) -> None:
    def much() -> None:
        for topic in ("task.ready", "task.running", "worker", "task.ready", "task.running"):
            journal.add(topic, published=False)
        journal.first_kept = 4

    with Client(peer.endpoint) as client:
        peer.answers["subscribe"] = _then(journal, much)
        events = client.events(["task"])
        got = [next(events) for _ in range(3)]
        events.close()  # type: ignore[attr-defined]
    assert got[0] == {"topic": "missed", "first": 1, "last": 3, "topics": {"task.ready": 1, "task.running": 1}}
    assert seqs(got[1:]) == [4, 5]


def test_of_stored_events_what_is_gone_is_told_to_who_asked_for_it(peer: Peer, journal: Journal) -> None:
    for topic in ("worker", "limit", "worker", "limit", "worker"):
        journal.add(topic, published=False)
    journal.first_kept = 4
    with Client(peer.endpoint) as client:
        first, *rest = client.events(["worker"], start=1, follow=False)
        assert first == {"topic": "missed", "first": 1, "last": 3, "topics": {"worker": 2}}
        assert seqs(rest) == [5]
        first, *rest = client.events(start=2, follow=False)
        assert first == {"topic": "missed", "first": 2, "last": 3, "topics": {}}
        assert seqs(rest) == [4, 5]
        assert seqs(list(client.events(follow=False))) == [4, 5]


def test_callbacks_run_on_a_thread_and_survive_their_errors(
    peer: Peer, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    heard: queue.Queue[Body] = queue.Queue()

    def callback(event: Body) -> None:
        heard.put(event)
        if event["active"] == 0:
            raise ValueError("on purpose")

    with Client(peer.endpoint) as client:
        stop = client.on("stats", callback)
        assert peer.await_subscription() == b"\x01stats"
        for active in (0, 1):
            peer.publish("stats", active, [{"seq": None, "active": active}])
        assert [heard.get(timeout=30)["active"] for _ in range(2)] == [0, 1]
        stop()
        stop()
    assert "the callback failed" in caplog.text


def test_a_flow_yields_each_result_once_as_its_tasks_end(peer: Peer, journal: Journal) -> None:
    lines = {
        number: {"number": number, "type": "echo", "state": "succeeded", "ok": True, "flow": 7} for number in (1, 2, 3)
    }
    ended = [2]

    def results(body: Body) -> Body:
        wanted = ended if body["refs"] == ["f7"] else [int(ref) for ref in body["refs"]]
        return {"results": [lines[number] for number in wanted], "next": None}

    peer.answers |= {
        "submit": {
            "flow": 7,
            "submission": "x",
            "state": "active",
            "first": 1,
            "count": 3,
            "received": 3,
            "repeated": False,
        },
        "status": {"items": [{"kind": "flow", "flow": 7, "total": 3}]},
        "results": results,
    }
    with Client(peer.endpoint) as client:
        done = client.submit_batch([{"type": "echo"}] * 3).as_completed()
        got = [next(done).number]
        for _ in range(5):
            peer.await_subscription()
        journal.add("task.succeeded", task=2, flow=7)
        journal.add("task.succeeded", task=9, flow=8)
        journal.add("task.failed", task=3, flow=7)
        got.append(next(done).number)
        journal.add("task.succeeded", task=1, flow=7)
        got += [result.number for result in done]
    assert got == [2, 3, 1]


def test_a_flow_that_grows_yields_what_was_added(peer: Peer, journal: Journal) -> None:
    lines = {number: {"number": number, "type": "echo", "state": "succeeded", "ok": True} for number in (1, 2, 3)}
    ended = [1]
    flow = {"kind": "flow", "flow": 7, "total": 1, "state": "open"}

    def results(body: Body) -> Body:
        wanted = ended if body["refs"] == ["f7"] else [int(ref) for ref in body["refs"]]
        return {"results": [lines[number] for number in wanted], "next": None}

    peer.answers |= {
        "submit": {"flow": 7, "submission": "x", "state": "open", "first": 1, "count": 1, "received": 1},
        "status": lambda _: {"items": [dict(flow)]},
        "results": results,
    }
    with Client(peer.endpoint) as client:
        done = client.submit_batch([{"type": "echo"}], stream=True).as_completed()
        got = [next(done).number]
        for _ in range(8):
            peer.await_subscription()
        flow["total"] = 2
        journal.add("task.succeeded", task=2, flow=7)
        got.append(next(done).number)
        # An event of the last one is deleted before we see it, and the flow is closed.
        flow |= {"total": 3, "state": "succeeded"}
        ended += [2, 3]
        journal.add("task.succeeded", task=3, flow=7, published=False)
        journal.first_kept = 4
        journal.add("flow.succeeded", flow=7, published=False)
        journal.add("task.succeeded", task=9, flow=8)
        got += [result.number for result in done]
    assert got == [1, 2, 3]
