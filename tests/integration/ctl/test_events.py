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
