"""Flows that grow while they run: from sync and async handlers and from programs, once for each step, whatever dies in between."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import Daemon, running, with_handlers
from helpers.raw import Raw, Refusal

Task = dict[str, Any]
Lines = dict[Any, dict[str, Any]]

#: A program that adds tasks with nothing but libzmq and MessagePack.
BARE = """
import json, os, sys, uuid, msgpack, zmq
socket = zmq.Context.instance().socket(zmq.REQ)
socket.setsockopt(zmq.LINGER, 0)
socket.connect(os.environ["GEMFLOW_ENDPOINT"])
number = int(os.environ["GEMFLOW_TASK"])
tasks = [{"id": "a", "type": "echo"}, {"id": "b", "type": "echo", "deps": ["a", {"number": number}]}]
grow = {"task": number, "token": int(os.environ["GEMFLOW_TOKEN"]), "step": "once"}
body = {"submission": str(uuid.uuid4()), "tasks": tasks, "grow": grow}
socket.send(msgpack.packb({"v": 1, "id": 1, "op": "submit", "body": body}))
reply = msgpack.unpackb(socket.recv())
if not reply["ok"]:
    sys.exit(str(reply))
if os.environ["GEMFLOW_ATTEMPT"] == "1":
    sys.exit("after it has added them")
print(json.dumps(reply["body"]))
"""

#: The same with the client library.
WITH_LIBRARY = """
import json, os, sys
from gemflowctl import Client
with Client() as gemflow:
    number = int(os.environ["GEMFLOW_TASK"])
    tasks = [{"id": "a", "type": "echo"}, {"id": "b", "type": "echo", "deps": ["a", {"number": number}]}]
    flow = gemflow.submit_batch(tasks, grow={"step": "once"})
if os.environ["GEMFLOW_ATTEMPT"] == "1":
    sys.exit("after it has added them")
print(json.dumps({"flow": flow.number, "count": flow.count}))
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(**with_handlers("asking_tasks", workers=2, batch_size=20, backoff=0.01)) as daemon:
        yield daemon


def growing(kind: str, branches: int = 3, **data: Any) -> Task:
    return {"id": "start", "type": kind, "data": {"branches": branches, "by": kind, **data}}


def by_id(lines: list[dict[str, Any]]) -> Lines:
    return {line["id"]: line for line in lines}


def outcomes(client: Raw, number: int) -> list[str]:
    return [attempt["outcome"] for attempt in client.show(number)["attempts_log"]]


@pytest.mark.parametrize("kind", ["grow", "agrow"])
def test_a_task_adds_tasks_and_a_continuation(client: Raw, kind: str) -> None:
    lines = by_id(client.run(growing(kind)))
    assert list(lines) == ["start", "branch-0", "branch-1", "branch-2", "joined"]
    assert {line["state"] for line in lines.values()} == {"succeeded"}
    assert len({line["flow"] for line in lines.values()}) == 1
    added = lines["start"]["result"]
    assert (added["first"], added["count"], added["repeated"]) == (lines["branch-0"]["number"], 4, False)
    deps = client.show(lines["joined"]["number"])["deps"]
    assert [dep["id"] for dep in deps] == ["start", "branch-0", "branch-1", "branch-2"]


@pytest.mark.parametrize("kind", ["grow", "agrow"])
def test_a_step_is_added_once(client: Raw, kind: str) -> None:
    lines = by_id(client.run(growing(kind, step="one", fails=True)))
    assert len(lines) == 5
    assert {line["state"] for line in lines.values()} == {"succeeded"}
    added = lines["start"]["result"]
    assert (added["first"], added["count"], added["repeated"]) == (lines["branch-0"]["number"], 4, True)
    assert outcomes(client, lines["start"]["number"]) == ["error", "done"]


def test_without_a_step_a_later_attempt_is_refused_the_same_ids(client: Raw) -> None:
    lines = by_id(client.run({**growing("grow", fails=True), "retries": 1}))
    assert lines["start"]["error"]["code"] == "duplicate_id"
    assert lines["joined"]["state"] == "skipped"


def test_a_step_is_added_once_when_its_worker_is_killed(client: Raw) -> None:
    lines = by_id(client.run(growing("grow", step="one", dies=True)))
    assert len(lines) == 5
    assert {line["state"] for line in lines.values()} == {"succeeded"}
    assert lines["start"]["result"]["repeated"] is True
    assert outcomes(client, lines["start"]["number"]) == ["crash", "done"]


def test_a_step_is_added_once_when_the_daemon_is_killed() -> None:
    with running(**with_handlers("asking_tasks", workers=2)) as daemon:
        with Raw(daemon.endpoint) as client:
            number = client.submit(growing("grow", step="one", hangs=True))["first"]
            assert client.log_line(number)["text"] == "added"
        daemon.kill()
        daemon.restart()
        with Raw(daemon.endpoint) as client:
            client.wait("f1")
            lines = by_id(client.results("f1"))
            assert len(lines) == 5
            assert {line["state"] for line in lines.values()} == {"succeeded"}
            assert lines["start"]["result"]["repeated"] is True
            assert outcomes(client, number) == ["lost", "done"]


@pytest.mark.parametrize("program", [BARE, WITH_LIBRARY], ids=["bare", "library"])
def test_a_program_adds_tasks(client: Raw, program: str) -> None:
    task = {"id": "start", "type": "command", "data": {"args": [sys.executable, "-c", program]}}
    lines = by_id(client.run(task))
    assert {name: line["state"] for name, line in lines.items()} == dict.fromkeys(("start", "a", "b"), "succeeded"), (
        client.show(lines["start"]["number"])
    )
    assert outcomes(client, lines["start"]["number"]) == ["error", "done"]
    said = lines["start"]["result"]["stdout"]
    assert (said["flow"], said["count"]) == (lines["start"]["flow"], 2)


def test_an_agent_goes_on_by_itself(client: Raw) -> None:
    """As in docs/handlers.md: tools, and a continuation that waits for them and for who adds it."""
    lines = by_id(client.run({"id": "agent-0", "type": "agent", "data": {"round": 0, "rounds": 5}}))
    assert len(lines) == 1 + 5 * 3
    assert lines["agent-5"]["result"] == {"rounds": [0, 1, 2, 3, 4, 5]}


def test_the_token_of_an_attempt_that_has_ended_is_of_no_use(client: Raw) -> None:
    program = (
        "import json, os; print(json.dumps({n: os.environ['GEMFLOW_' + n] for n in ('TASK', 'TOKEN', 'ENDPOINT')}))"
    )
    (line,) = client.run({"type": "command", "data": {"args": [sys.executable, "-c", program]}})
    said = line["result"]["stdout"]
    with Raw(said["ENDPOINT"]) as other, pytest.raises(Refusal) as refused:
        grow = {"task": int(said["TASK"]), "token": int(said["TOKEN"])}
        other("submit", submission=str(uuid.uuid4()), tasks=[{"type": "echo"}], grow=grow)
    assert (refused.value.code, refused.value.path) == ("stale_attempt", "grow")


def test_a_handler_speaks_for_its_own_task_alone(client: Raw) -> None:
    other = client.submit({"type": "echo", "delay": 1000})
    for grow in ({"task": other["first"], "token": 1}, {"step": "one"}, None):
        body = {"submission": str(uuid.uuid4()), "tasks": [{"id": "new", "type": "echo"}], "grow": grow}
        lines = client.run({"type": "ask-anything", "data": {"op": "submit", "body": body}})
        assert [line["id"] for line in lines] == [None, "new"], grow
        assert lines[0]["result"]["flow"] == lines[0]["flow"] != other["flow"]
    wrong = {"op": "submit", "body": {"submission": str(uuid.uuid4()), "tasks": [{"type": "echo"}], "grow": 5}}
    (line,) = client.run({"type": "ask-anything", "data": wrong})
    assert line["result"] == {"refused": "wrong_type", "path": "grow"}
    client("cancel", refs=[other["first"]])


def test_growth_has_its_limit(client: Raw) -> None:
    client("config", set={"max_growth_tasks": 4})
    try:
        assert len(client.run(growing("grow", branches=3))) == 5
        (line,) = client.run({**growing("grow", branches=4), "retries": 0})
        assert (line["error"]["class"], line["error"]["code"]) == ("RequestRefused", "growth_limit")
    finally:
        client("config", reset=["max_growth_tasks"])


def test_what_is_refused_because_the_daemon_stops_costs_no_try(tmp_path: Path) -> None:
    until = tmp_path / "until"
    with running(**with_handlers("asking_tasks", workers=1, drain_timeout=20.0)) as daemon:
        with Raw(daemon.endpoint) as client:
            number = client.submit({"type": "grow-when-told", "data": {"until": str(until)}, "retries": 0})["first"]
            assert client.log_line(number)["text"] == "waiting"
            client("shutdown")
            client("memory_set", key="go", value=True)  # what runs may go on working, and others with it
            until.touch()
            assert daemon.wait_end() == 0
        daemon.restart()
        with Raw(daemon.endpoint) as client:
            client.wait("f1")
            assert outcomes(client, number) == ["lost", "done"]
            assert len(client.results("f1")) == 2
