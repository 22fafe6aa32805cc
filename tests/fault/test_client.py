"""Clients that lose a reply, or their daemon, in the middle of a submission."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import zmq
from helpers.daemon import Daemon, running
from helpers.raw import Raw, Subscriber


def echo(**fields: Any) -> dict[str, Any]:
    return {"type": "echo", **fields}


def wait_stored(daemon: Daemon, submission: str, received: int) -> dict[str, Any]:
    """Wait for a submission whose reply nobody gets."""
    with Subscriber(daemon.events, "") as events, Raw(daemon.endpoint) as client:
        while True:
            try:
                found = client("submission", submission=submission)
                if found["received"] >= received:
                    return found
            except Exception as refusal:
                assert getattr(refusal, "code", None) == "not_found"
            events.message()  # anything that happens: statistics at the latest


def test_a_lost_reply_and_the_same_submission_again() -> None:
    with running(workers=1) as daemon:
        body = {"submission": str(uuid.uuid4()), "tasks": [echo(id="a"), echo(deps=["a"])]}
        lost = Raw(daemon.endpoint, RCVHWM=1)
        lost.send("submit", **body)
        wait_stored(daemon, body["submission"], 2)
        lost.close()  # the reply is in its socket, or on its way
        with Raw(daemon.endpoint) as client:
            total = sum(client("status")["tasks"].values())
            again = client("submit", **body)
            assert (again["repeated"], again["first"], again["count"]) == (True, 1, 2)
            assert sum(client("status")["tasks"].values()) == total == 2
            client.wait(f"f{again['flow']}")
            assert [line["attempts"] for line in client.results(f"f{again['flow']}")] == [1, 1]


@pytest.mark.parametrize("after", [0, 1])
def test_the_daemon_dies_before_it_replied(after: int) -> None:
    """Sent and killed at once: stored or not, the repeat makes it exactly one."""
    with running(workers=1) as daemon:
        body = {"submission": str(uuid.uuid4()), "tasks": [echo() for _ in range(500)]}
        client = Raw(daemon.endpoint)
        client("ping")
        client.send("submit", **body)
        if after:
            wait_stored(daemon, body["submission"], 500)
        daemon.kill()
        client.close()
        daemon.restart()
        with Raw(daemon.endpoint) as other:
            reply = other("submit", **body)
            assert after == 0 or reply["repeated"]
            other.wait(f"f{reply['flow']}")
            assert other("status")["tasks"]["succeeded"] == 500
            assert other("status")["flows"] == {"succeeded": 1}


def test_a_half_received_flow_goes_on_after_a_kill(daemon: Daemon) -> None:
    client = daemon.client()
    body: dict[str, Any] = {"submission": str(uuid.uuid4()), "name": "long", "complete": False}
    tasks = [echo(id=i, deps=[i - 1] if i else []) for i in range(30)]
    for offset in (0, 10):
        client("submit", **body, tasks=tasks[offset : offset + 10], offset=offset)
    daemon.kill()
    daemon.restart()
    client = daemon.client()
    found = client("submission", submission=body["submission"])
    assert (found["state"], found["received"]) == ("open", 20)
    assert client("status")["tasks"]["running"] == 0
    # The last chunk before the kill may be repeated, whoever is not sure.
    assert client("submit", **body, tasks=tasks[10:20], offset=10)["repeated"]
    last = client("submit", **{**body, "complete": True}, tasks=tasks[20:], offset=found["received"])
    assert (last["first"], last["received"], last["flow"]) == (21, 30, found["flow"])
    client.wait(f"f{last['flow']}")
    lines = client.results(f"f{last['flow']}")
    assert [line["id"] for line in lines] == list(range(30))
    assert all(line["ok"] and line["attempts"] == 1 for line in lines)


def test_a_client_that_dies_in_the_middle_of_a_frame(daemon: Daemon) -> None:
    with Raw(daemon.endpoint) as half:
        half.socket.send(b"\x84\xa1v\x01", zmq.SNDMORE)
    with Raw(daemon.endpoint) as client:
        assert client("ping")
        assert client("status")["flows"] == {}
