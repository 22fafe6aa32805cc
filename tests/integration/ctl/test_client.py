"""The blocking client against a scripted daemon: replies that get lost, refusals, chunks, restarts."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from integration.ctl.ctlpeer import Body, Peer, Refuse, Silence, accept

from gemflowctl import Client, ConnectionLost, InvalidInput, NoDaemon, RefusedByDaemon, ReplyTimeout, WaitTimeout

UUID = "0b9f2d3e-7a39-4a34-8f1a-5f5a1f0f0a11"


def test_no_daemon_names_the_socket_and_how_to_start_it(directory: Path) -> None:
    with Client(f"ipc://{directory}/none.sock") as client, pytest.raises(NoDaemon, match=r"none\.sock.*gemflowd run"):
        client.ping()


def test_a_socket_that_nobody_listens_on_is_no_daemon(peer: Peer, directory: Path) -> None:
    import socket

    path = directory / "left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with Client(f"ipc://{path}") as client, pytest.raises(NoDaemon, match="nobody listens"):
        client.ping()


def test_a_path_that_the_system_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidInput, match="107"):
        Client("ipc:///" + "x" * 200)


def test_a_lost_reply_is_asked_for_again_with_the_same_frame(peer: Peer) -> None:
    answers = iter([Silence(), None])

    def lose_the_first(body: Body) -> Body:
        if problem := next(answers):
            raise problem
        return accept(body) | {"repeated": True}

    peer.answers["submit"] = lose_the_first
    with Client(peer.endpoint, reply_timeout=0.3) as client:
        task = client.submit("echo", {"text": "hello"})
    assert (task.number, task.flow) == (42, 7)
    first, second = peer.frames
    assert first == second
    assert len({body["submission"] for body in peer.bodies("submit")}) == 1


def test_silence_ends_in_a_reply_timeout_after_three_tries(peer: Peer) -> None:
    def silence(_: Body) -> Body:
        raise Silence

    peer.answers["stats"] = silence
    with Client(peer.endpoint, reply_timeout=0.1) as client:
        with pytest.raises(ReplyTimeout, match=r"stats.*3 times"):
            client.stats()
        assert client.ping() == 1.0  # the connection is good for more
    assert peer.ops().count("stats") == 3


def test_what_is_not_safe_to_repeat_is_sent_once(peer: Peer) -> None:
    def silence(_: Body) -> Body:
        raise Silence

    peer.answers["retry"] = silence
    with Client(peer.endpoint, reply_timeout=0.1) as client, pytest.raises(ReplyTimeout, match="not known"):
        client.retry("42")
    assert peer.ops().count("retry") == 1


def test_a_refusal_has_code_message_and_path(peer: Peer) -> None:
    def refuse(_: Body) -> Body:
        raise Refuse("unknown_type", "no handler for 'ecko'", "tasks[0].type")

    peer.answers["submit"] = refuse
    with Client(peer.endpoint) as client, pytest.raises(RefusedByDaemon) as caught:
        client.submit("ecko")
    assert (caught.value.code, caught.value.path) == ("unknown_type", "tasks[0].type")


def test_a_restart_in_the_middle_of_a_wait_is_survived(peer: Peer) -> None:
    ended = {"done": True, "total": 1, "ended": 1, "tasks": {"succeeded": 1}}
    waits: list[Body] = []

    def wait(body: Body) -> Body:
        waits.append(body)
        if len(waits) == 1:
            raise Silence  # a long poll that the daemon's end cuts off
        return ended

    peer.answers["wait"] = wait
    outcome: list[Any] = []

    def run() -> None:
        with Client(peer.endpoint) as client:
            outcome.append(client.wait(42))

    thread = threading.Thread(target=run)
    thread.start()
    peer.await_request("wait")
    peer.stop()
    peer.start()
    thread.join(30)
    assert outcome == [ended]


@pytest.mark.parametrize(("op", "problem"), [("wait", NoDaemon), ("retry", ConnectionLost)])
def test_a_daemon_that_does_not_come_back_is_no_daemon(peer: Peer, op: str, problem: type[NoDaemon]) -> None:
    def silence(_: Body) -> Body:
        raise Silence

    peer.answers[op] = silence
    caught: list[BaseException] = []

    def run() -> None:
        with Client(peer.endpoint, restart_patience=0.2) as client:
            client.ping()
            try:
                getattr(client, op)("42")
            except NoDaemon as error:
                caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    peer.await_request(op)
    peer.stop()
    thread.join(30)
    assert [type(error) for error in caught] == [problem]


def test_waiting_renews_its_polls_until_the_time_is_over(peer: Peer) -> None:
    peer.answers["wait"] = {"done": False, "total": 2, "ended": 1, "tasks": {"running": 1, "failed": 1}}
    with Client(peer.endpoint) as client, pytest.raises(WaitTimeout, match="1 of 2") as caught:
        client.wait(["f7", 42], timeout=0.05)
    assert caught.value.status["ended"] == 1
    bodies = peer.bodies("wait")
    assert bodies[0]["refs"] == ["f7", "42"]
    assert all(0 <= body["timeout"] <= 0.05 for body in bodies)


def test_a_large_batch_goes_in_chunks_two_at_a_time(peer: Peer) -> None:
    peer.answers["submit"] = accept
    seen: list[tuple[int, int]] = []
    with Client(peer.endpoint) as client:
        flow = client.submit_batch(
            [{"type": "echo", "id": str(number)} for number in range(2500)],
            name="many",
            progress=lambda done, total: seen.append((done, total)),
        )
    assert (flow.number, flow.count) == (7, 2500)
    bodies = peer.bodies("submit")
    assert [(body["offset"], len(body["tasks"]), body["complete"]) for body in bodies] == [
        (0, 1000, False),
        (1000, 1000, False),
        (2000, 500, True),
    ]
    assert seen == [(1000, 2500), (2000, 2500), (2500, 2500)]


def test_a_submission_goes_on_where_the_daemon_stopped(peer: Peer) -> None:
    peer.answers["submit"] = accept
    peer.answers["submission"] = {"flow": 7, "state": "open", "received": 2000}
    with Client(peer.endpoint) as client:
        client.submit_batch([{"type": "echo"}] * 2500, submission=UUID)
    assert [body["offset"] for body in peer.bodies("submit")] == [2000]


def test_a_submission_that_was_received_but_not_completed_is_completed(peer: Peer) -> None:
    peer.answers["submit"] = accept
    peer.answers["submission"] = {"flow": 7, "state": "open", "received": 2500}
    with Client(peer.endpoint) as client:
        client.submit_batch([{"type": "echo"}] * 2500, submission=UUID)
    (body,) = peer.bodies("submit")
    assert (body["tasks"], body["offset"], body["complete"]) == ([], 2500, True)


def test_a_wrong_offset_makes_the_client_ask_where_the_daemon_is(peer: Peer) -> None:
    received = 0

    def forgetful(body: Body) -> Body:
        nonlocal received
        if body["offset"] == 1000 and received == 1000 and not peer.bodies("submission"):
            raise Refuse("submission_offset", "the daemon has 0 tasks")
        if body["offset"] != received:
            raise Refuse("submission_offset", f"the daemon has {received} tasks")
        received = body["offset"] + len(body["tasks"])
        return accept(body)

    peer.answers["submit"] = forgetful
    peer.answers["submission"] = lambda _: {"flow": 7, "state": "open", "received": received}
    with Client(peer.endpoint) as client:
        client.submit_batch([{"type": "echo"}] * 3500)
    assert received == 3500


def test_a_refusal_inside_a_later_chunk_names_the_task_as_the_caller_counts(peer: Peer) -> None:
    def refuse_the_second(body: Body) -> Body:
        if body["offset"] == 1000:
            raise Refuse("invalid_data", "no", "tasks[5].data.text")
        if body["offset"] > 1000:
            raise Refuse("not_found", "discarded")
        return accept(body)

    peer.answers["submit"] = refuse_the_second
    with Client(peer.endpoint) as client, pytest.raises(RefusedByDaemon) as caught:
        client.submit_batch([{"type": "echo"}] * 3000)
    assert (caught.value.code, caught.value.path) == ("invalid_data", "tasks[1005].data.text")


def test_pages_of_tasks_results_and_logs_are_joined(peer: Peer) -> None:
    def list_(body: Body) -> Body:
        start = body.get("after", 0)
        return {"tasks": [{"number": start + 1}, {"number": start + 2}], "next": start + 2 if start < 4 else None}

    def results(body: Body) -> Body:
        start = body.get("after", 0)
        return {
            "results": [{"number": start + 1, "type": "echo", "state": "succeeded", "ok": True, "result": start}],
            "next": start + 1 if start < 2 else None,
        }

    def logs(body: Body) -> Body:
        after = body["after"]
        return {"lines": [{"seq": after + 1, "text": "x"}], "next": after + 1, "ended": after == 2}

    peer.answers |= {"list": list_, "results": results, "logs": logs}
    with Client(peer.endpoint) as client:
        assert [task["number"] for task in client.list(state="failed")] == [1, 2, 3, 4, 5, 6]
        assert [result.value for result in client.results("f7")] == [0, 1, 2]
        assert [line["seq"] for line in client.logs(42, follow=True)] == [1, 2, 3]
    assert peer.bodies("list")[0]["state"] == "failed"


def test_a_flow_is_followed_in_order_from_behind_a_task(peer: Peer) -> None:
    line = {"type": "echo", "state": "succeeded", "ok": True, "flow": 7}
    pages = iter([[5, 6], [], [8]])

    def results(body: Body) -> Body:
        numbers = next(pages)
        found = [{**line, "number": number} for number in numbers]
        return {"results": found, "next": numbers[-1] if numbers else body["after"], "done": numbers == [8]}

    status = {"kind": "flow", "flow": 7, "total": 6, "tasks": {"succeeded": 3, "failed": 1, "running": 2}}
    peer.answers |= {"results": results, "status": {"items": [status]}}
    told = []
    with Client(peer.endpoint) as client:
        followed = client.follow("f7", after=4, progress=lambda *figures: told.append(figures))
        assert [result.number for result in followed] == [5, 6, 8]
    assert told == [(4, 6)] * 3
    assert [(body["after"], body["wait"]) for body in peer.bodies("results")] == [(4, 0.5), (6, 0.5), (6, 0.5)]


def test_a_task_waits_for_its_result(peer: Peer) -> None:
    line = {
        "number": 42,
        "id": None,
        "flow": 7,
        "type": "echo",
        "state": "failed",
        "ok": False,
        "error": {"class": "permanent", "code": "bad", "message": "no"},
        "attempts": 1,
        "seconds": 0.5,
    }
    ended = {"done": True, "total": 1, "ended": 1, "tasks": {"failed": 1}, "results": [line], "next": None}
    peer.answers |= {"submit": accept, "wait": ended}
    with Client(peer.endpoint) as client:
        before = client.submit("echo")
        result = client.submit("echo", deps=[before]).result(timeout=5)
    assert not result.ok
    assert result.error is not None
    assert (result.error.kind, result.error.code, result.error.message) == ("permanent", "bad", "no")
    assert peer.bodies("submit")[1]["tasks"][0]["deps"] == [{"number": 42}]


def test_every_single_operation_sends_what_the_protocol_says(peer: Peer) -> None:
    for op in (
        "status",
        "show",
        "cancel",
        "retry",
        "workers",
        "profile",
        "handlers",
        "shutdown",
        "discard",
        "submission",
        "stats",
    ):
        peer.answers[op] = {}
    peer.answers["config"] = {"settings": []}
    peer.answers["subscribe"] = {"next": 5}
    with Client(peer.endpoint) as client:
        client.status()
        client.status([42, "f7"])
        client.show("f7/a")
        client.cancel("42-48")
        client.retry("f7", downstream=True)
        client.workers(3)
        client.profile("maximum")
        client.config({"workers": 2}, ["task_timeout"])
        client.handlers()
        client.stats()
        client.submission(UUID)
        client.discard(UUID)
        client.shutdown(drain=False)
        assert client.next_event() == 5
    assert [(request["op"], request["body"]) for request in peer.requests] == [
        ("status", {}),
        ("status", {"refs": ["42", "f7"]}),
        ("show", {"ref": "f7/a"}),
        ("cancel", {"refs": ["42-48"]}),
        ("retry", {"refs": ["f7"], "downstream": True}),
        ("workers", {"count": 3}),
        ("profile", {"name": "maximum"}),
        ("config", {"set": {"workers": 2}, "reset": ["task_timeout"]}),
        ("handlers", {}),
        ("stats", {}),
        ("submission", {"submission": UUID}),
        ("discard", {"submission": UUID}),
        ("shutdown", {"drain": False}),
        ("subscribe", {}),
    ]
