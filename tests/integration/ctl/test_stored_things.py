"""Both clients send what the protocol says for queues, schedules, the shared memory, the database, and what is done to tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from integration.ctl.ctlpeer import Body, Peer, Refuse, Silence, accept

from gemflowctl import AsyncClient, Client, InvalidInput, RefusedByDaemon, ReplyTimeout

TASK = {"type": "echo"}
GROW = {"task": 42, "token": 7, "step": "a"}
#: A method, its arguments, the operation and the body that is sent, and the answer where one is looked at.
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, Body, Body]] = [
    ("hold", (["f7", 3],), {}, "hold", {"refs": ["f7", "3"]}, {}),
    ("release", ("42-48",), {}, "release", {"refs": ["42-48"]}, {}),
    ("edit", ("f7",), {"priority": -2}, "edit", {"refs": ["f7"], "priority": -2}, {}),
    ("delete", (7,), {}, "delete", {"refs": ["7"]}, {}),
    ("explain", ("f7/a",), {}, "explain", {"ref": "f7/a"}, {}),
    ("queues", (), {}, "queues", {}, {"queues": []}),
    ("queue_limit", ("slow", 4), {}, "queues", {"queue": "slow", "limit": 4}, {}),
    ("queue_limit", ("slow", None), {}, "queues", {"queue": "slow", "limit": None}, {}),
    ("pause", (), {}, "pause", {}, {}),
    ("resume", ("slow",), {}, "resume", {"queue": "slow"}, {}),
    (
        "schedule_add",
        ("n", "@hourly", TASK),
        {},
        "schedule_add",
        {"name": "n", "cron": "@hourly", "task": TASK},
        {},
    ),
    (
        "schedule_add",
        ("n", "@hourly", TASK),
        {
            "zone": "Europe/Berlin",
            "misfire": "all",
            "misfire_limit": 3,
            "overlap": "queue",
            "paused": True,
            "replace": True,
        },
        "schedule_add",
        {
            "name": "n",
            "cron": "@hourly",
            "task": TASK,
            "zone": "Europe/Berlin",
            "misfire": "all",
            "misfire_limit": 3,
            "overlap": "queue",
            "paused": True,
            "replace": True,
        },
        {},
    ),
    ("schedule_list", (), {}, "schedule_list", {}, {"schedules": []}),
    ("schedule_show", ("n",), {}, "schedule_show", {"name": "n"}, {}),
    ("schedule_pause", ("n",), {}, "schedule_pause", {"name": "n"}, {}),
    ("schedule_resume", ("n",), {}, "schedule_resume", {"name": "n"}, {}),
    ("schedule_remove", ("n",), {}, "schedule_remove", {"name": "n"}, {}),
    ("memory_get", ("k",), {}, "memory_get", {"key": "k"}, {}),
    ("memory_get", ("k",), {"namespace": "n"}, "memory_get", {"key": "k", "namespace": "n"}, {}),
    ("memory_set", ("k", None), {}, "memory_set", {"key": "k", "value": None}, {}),
    (
        "memory_set",
        ("k", [1]),
        {"namespace": "n", "ttl": 60.0, "version": 0},
        "memory_set",
        {"key": "k", "value": [1], "namespace": "n", "ttl": 60.0, "version": 0},
        {},
    ),
    ("memory_delete", ("k",), {"version": 3}, "memory_delete", {"key": "k", "version": 3}, {"deleted": True}),
    ("memory_namespaces", (), {}, "memory_list", {"namespaces": True}, {"namespaces": []}),
    ("db_snapshot", ("/x/y.db",), {}, "db_snapshot", {"path": "/x/y.db"}, {}),
    ("db_check", (), {}, "db_check", {}, {"ok": True}),
]


@pytest.fixture(params=["blocking", "asyncio"])
def call(request: pytest.FixtureRequest, peer: Peer) -> Callable[..., Any]:
    """Call a method of a client, blocking or in asyncio, and return what comes of it; of an iterator all."""

    def blocking(method: str, /, *arguments: Any, **options: Any) -> Any:
        with Client(peer.endpoint, reply_timeout=0.2 if "quick" in options else 20) as client:
            options.pop("quick", None)
            found = getattr(client, method)(*arguments, **options)
            return list(found) if hasattr(found, "__next__") else found

    async def in_asyncio(method: str, /, *arguments: Any, **options: Any) -> Any:
        async with AsyncClient(peer.endpoint, reply_timeout=0.2 if "quick" in options else 20) as client:
            options.pop("quick", None)
            found = getattr(client, method)(*arguments, **options)
            return [item async for item in found] if hasattr(found, "__anext__") else await found

    if request.param == "blocking":
        return blocking
    return lambda *arguments, **options: asyncio.run(asyncio.wait_for(in_asyncio(*arguments, **options), 60))


def test_every_operation_sends_what_the_protocol_says(peer: Peer, call: Callable[..., Any]) -> None:
    for method, arguments, options, op, body, answer in CALLS:
        peer.answers[op] = answer
        found = call(method, *arguments, **options)
        request = peer.requests[-1]
        assert (request["op"], request["body"]) == (op, body)
        assert found in (answer, *answer.values())


def test_a_relative_path_is_made_absolute(peer: Peer, call: Callable[..., Any]) -> None:
    peer.answers["db_snapshot"] = {"path": "x", "bytes": 1, "seconds": 0.1}
    call("db_snapshot", "copy.db")
    assert peer.bodies("db_snapshot") == [{"path": str(Path.cwd() / "copy.db")}]


@pytest.mark.parametrize(
    ("method", "arguments", "options", "times"),
    [
        ("hold", ("42",), {}, 3),
        ("edit", ("42",), {"priority": 1}, 3),
        ("delete", ("42",), {}, 1),
        ("memory_set", ("k", 1), {}, 3),
        ("memory_set", ("k", 1), {"version": 4}, 1),
        ("memory_delete", ("k",), {}, 1),
        ("schedule_remove", ("n",), {}, 1),
        ("schedule_add", ("n", "@hourly", TASK), {}, 1),
        ("schedule_add", ("n", "@hourly", TASK), {"replace": True}, 3),
    ],
)
def test_only_what_is_safe_to_repeat_is_repeated(
    peer: Peer, call: Callable[..., Any], method: str, arguments: tuple[Any, ...], options: Body, times: int
) -> None:
    def silence(_: Body) -> Body:
        raise Silence

    peer.answers[method] = silence
    with pytest.raises(ReplyTimeout):
        call(method, *arguments, quick=True, **options)
    assert peer.ops().count(method) == times


def test_a_refusal_has_its_code(peer: Peer, call: Callable[..., Any]) -> None:
    def refuse(_: Body) -> Body:
        raise Refuse("version_mismatch", "it has version 4", "version")

    peer.answers["memory_set"] = refuse
    with pytest.raises(RefusedByDaemon, match="version 4") as caught:
        call("memory_set", "k", 1, version=3)
    assert (caught.value.code, caught.value.path) == ("version_mismatch", "version")


def test_pages_of_keys_are_joined(peer: Peer, call: Callable[..., Any]) -> None:
    def page(body: Body) -> Body:
        start = int(body.get("after", "0"))
        keys = [{"key": str(start + 1)}, {"key": str(start + 2)}][: body["limit"]]
        return {"items": keys, "next": keys[-1]["key"] if start < 4 else None}

    peer.answers["memory_list"] = page
    assert [item["key"] for item in call("memory_list", "p", namespace="n")] == ["1", "2", "3", "4", "5", "6"]
    assert [item["key"] for item in call("memory_list", values=True, limit=3)] == ["1", "2", "3"]
    first, *_, last = peer.bodies("memory_list")
    assert {key: first[key] for key in ("prefix", "namespace")} == {"prefix": "p", "namespace": "n"}
    assert (last["values"], last["limit"], last["after"]) == (True, 1, "2")


def test_submissions_say_how_they_are_meant(peer: Peer, call: Callable[..., Any]) -> None:
    peer.answers["submit"] = accept
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    call("submit", "echo", run_at=moment, expires=moment, when="deps.a.ok", key="k", resources={"gpu": 1}, grow=GROW)
    call("submit_batch", [TASK], order="critical-path", weight=2.0, stream=False)
    call("submit_batch", [TASK], name="n", stream=True, order="fair")
    grown, critical, streamed = peer.bodies("submit")
    assert grown["grow"] == GROW
    assert grown["tasks"] == [
        {
            "type": "echo",
            "run_at": 1893456000.0,
            "expires": 1893456000.0,
            "when": "deps.a.ok",
            "key": "k",
            "resources": {"gpu": 1},
        }
    ]
    assert (critical["order"], critical["weight"]) == ("critical-path", 2.0)
    assert not {"stream", "offset", "complete", "grow"} & set(critical)
    assert (streamed["name"], streamed["stream"], streamed["order"]) == ("n", True, "fair")
    with pytest.raises(InvalidInput, match="no zone"):
        call("submit", "echo", run_at=datetime(2030, 1, 1))
    with pytest.raises(InvalidInput, match="GEMFLOW_TASK"):
        call("submit", "echo", grow={})


def test_what_has_to_be_one_request_is_one(peer: Peer, call: Callable[..., Any]) -> None:
    peer.answers["submit"] = accept
    tasks = [{"id": 1, "type": "echo", "deps": [2]}, *[{"id": number, "type": "echo"} for number in range(2, 2501)]]
    call("submit_batch", tasks, grow=GROW)
    assert [(len(body["tasks"]), body["tasks"][0]["id"], "offset" in body) for body in peer.bodies("submit")] == [
        (2500, 1, False)
    ]
    assert peer.ops() == ["submit"]


def test_every_chunk_says_by_what_order(peer: Peer, call: Callable[..., Any]) -> None:
    peer.answers["submit"] = accept
    call("submit_batch", [TASK] * 2500, order="critical-path")
    assert [(len(body["tasks"]), body["order"], body["complete"]) for body in peer.bodies("submit")] == [
        (1000, "critical-path", False),
        (1000, "critical-path", False),
        (500, "critical-path", True),
    ]


def test_a_taken_key_names_the_task_that_has_it(peer: Peer, call: Callable[..., Any]) -> None:
    peer.answers["submit"] = lambda body: {**accept(body), "first": 5, "flow": 2, "repeated": True, "key": "returned"}
    flow = call("submit_batch", [{**TASK, "key": "k"}])
    assert (flow.key_taken, flow.repeated, flow.only_task().number) == (True, True, 5)
    peer.answers["submit"] = accept
    assert not call("submit_batch", [TASK]).key_taken
