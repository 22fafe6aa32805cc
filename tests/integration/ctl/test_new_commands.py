"""`gemflowctl` as a process: holding, queues, schedules, the shared memory, the database, and the new ways of submitting."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from integration.ctl.ctlpeer import Body, Journal, Peer, Refuse, Silence, accept, command

Ctl = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., "subprocess.Popen[str]"]

TASK: Body = {"number": 42, "flow": 7, "type": "echo", "state": "failed", "priority": 5, "created": 1_700_000_000.0}
SCHEDULE = {
    "name": "nightly",
    "cron": "30 2 * * *",
    "zone": "UTC",
    "misfire": "all",
    "misfire_limit": 10,
    "overlap": "skip",
    "paused": False,
    "next_run": 1700000000.0,
    "last_run": None,
    "last_flow": 7,
    "fired": 3,
    "skipped": 1,
    "created": 1600000000.0,
    "task": {"type": "echo", "data": {"x": "\x1b"}},
}
QUEUES = {
    "queues": [
        {"queue": "default", "paused": False, "limit": None, "tasks": {"ready": 3, "running": 0}},
        {"queue": "slow", "paused": True, "limit": 4, "tasks": {}},
    ]
}
KEY = {
    "namespace": "default",
    "key": "model",
    "version": 3,
    "updated": 1700000000.0,
    "expires": None,
    "bytes": 512,
    "writer": {"task": 42, "attempt": 1},
}
EXPLAINED = {
    "number": 42,
    "flow": 7,
    "state": "ready",
    "runnable": False,
    "reasons": [
        {"code": "queue_paused", "message": "m", "queue": "slow"},
        {"code": "behind", "message": "m", "ahead": 12},
    ],
}
NAMESPACES = {"namespaces": [{"namespace": "default", "keys": 2, "bytes": 1000}]}
SETTING = {"key": "enabled", "value": False, "origin": "run time", "unit": None, "default": True, "doc": "d"}


#: A command line, its operation with the body that is sent, the answer, what is shown, and the lines that --json writes.
COMMANDS: list[tuple[list[str], str, Body, Body, str, list[Any]]] = [
    (["hold", "f7", "3"], "hold", {"refs": ["f7", "3"]}, {"held": 2, "unchanged": 1}, "2 held, 1 unchanged", []),
    (["release", "f7"], "release", {"refs": ["f7"]}, {"released": 2, "unchanged": 1}, "2 released, 1 unchanged", []),
    (
        ["edit", "f7", "--priority", "-1"],
        "edit",
        {"refs": ["f7"], "priority": -1},
        {"edited": 2, "unchanged": 1},
        "2 have priority -1 now, 1 unchanged",
        [],
    ),
    (["delete", "f7"], "delete", {"refs": ["f7"]}, {"deleted": 9}, "9 deleted", []),
    (
        ["explain", "42"],
        "explain",
        {"ref": "42"},
        EXPLAINED,
        "task 42 (f7): ready; the queue slow is paused\n  and 12 tasks start before it",
        [],
    ),
    (["queues"], "queues", {}, QUEUES, "slow     paused  4", QUEUES["queues"]),
    (["queues", "default"], "queues", {}, QUEUES, "default  open   -      3 ready", QUEUES["queues"][:1]),
    (["pause"], "pause", {}, {"queue": "default", "paused": True}, "queue default is paused", []),
    (
        ["resume", "slow"],
        "resume",
        {"queue": "slow"},
        {"queue": "slow", "paused": False},
        "queue slow is not paused",
        [],
    ),
    (
        ["disable"],
        "config",
        {"set": {"enabled": False}},
        {"settings": [SETTING]},
        "parallel execution is disabled",
        [SETTING],
    ),
    (
        ["parallel", "enable"],
        "config",
        {"set": {"enabled": True}},
        {"settings": [{**SETTING, "value": True}]},
        "parallel execution is enabled",
        [{**SETTING, "value": True}],
    ),
    (
        ["schedule", "add", "nightly", "30 2 * * *", "echo"],
        "schedule_add",
        {"name": "nightly", "cron": "30 2 * * *", "task": {"type": "echo"}},
        SCHEDULE,
        "schedule nightly is active; it runs next at 2023-11-14 22:13:20",
        [],
    ),
    (
        ["list", "--metadata", "customer=acme", "--metadata", "run=7"],
        "list",
        {"metadata": {"customer": "acme", "run": 7}, "limit": 101},
        {"tasks": [TASK], "next": None},
        "42      -   f7    echo  failed",
        [TASK],
    ),
    (
        ["schedule", "list"],
        "schedule_list",
        {},
        {"schedules": [SCHEDULE]},
        "nightly  active  30 2 * * *  UTC   2023-11-14 22:13:20  -         f7",
        [SCHEDULE],
    ),
    (["schedule", "show", "nightly"], "schedule_show", {"name": "nightly"}, SCHEDULE, '"x": "\\u001b"', []),
    (
        ["schedule", "pause", "nightly"],
        "schedule_pause",
        {"name": "nightly"},
        {**SCHEDULE, "paused": True},
        "schedule nightly is paused",
        [],
    ),
    (
        ["schedule", "resume", "nightly"],
        "schedule_resume",
        {"name": "nightly"},
        {**SCHEDULE, "next_run": None},
        "never runs again",
        [],
    ),
    (
        ["schedule", "remove", "nightly"],
        "schedule_remove",
        {"name": "nightly"},
        {"name": "nightly"},
        "schedule nightly removed",
        [],
    ),
    (
        ["memory", "get", "model", "--namespace", "n"],
        "memory_get",
        {"key": "model", "namespace": "n"},
        {**KEY, "value": "a\x1b\nb"},
        "a\\x1b\nb\n",
        [],
    ),
    (["memory", "get", "model"], "memory_get", {"key": "model"}, {**KEY, "value": {"x": [1]}}, '{"x": [1]}\n', []),
    (
        ["memory", "set", "model", "flash"],
        "memory_set",
        {"key": "model", "value": "flash"},
        {"namespace": "default", "key": "model", "version": 4},
        "model has version 4 now",
        [],
    ),
    (
        ["memory", "delete", "model", "--if-version", "3"],
        "memory_delete",
        {"key": "model", "version": 3},
        {"deleted": True},
        "model deleted",
        [],
    ),
    (["memory", "delete", "x"], "memory_delete", {"key": "x"}, {"deleted": False}, "there was no key x", []),
    (
        ["memory", "list", "mo"],
        "memory_list",
        {"prefix": "mo", "limit": 101},
        {"items": [KEY], "next": None},
        "model  3        512 B  2023-11-14 22:13:20  -        task 42",
        [KEY],
    ),
    (
        ["memory", "list", "--values", "--all"],
        "memory_list",
        {"values": True, "limit": 50},
        {"items": [{**KEY, "writer": {"client": "me"}, "value": [1]}], "next": None},
        "me      [1]",
        [{**KEY, "writer": {"client": "me"}, "value": [1]}],
    ),
    (
        ["memory", "list", "--namespaces"],
        "memory_list",
        {"namespaces": True},
        NAMESPACES,
        "default    2     1.0 kB",
        NAMESPACES["namespaces"],
    ),
    (
        ["db", "snapshot", "/backups/x.db"],
        "db_snapshot",
        {"path": "/backups/x.db"},
        {"path": "/backups/x.db", "bytes": 43_100_000, "seconds": 1.25},
        "/backups/x.db written: 43.1 MB in 1.2 s",
        [],
    ),
    (
        ["db", "check"],
        "db_check",
        {},
        {"ok": True, "problems": [], "seconds": 1.25},
        "the database is sound (checked in 1.2 s)",
        [],
    ),
]


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: " ".join(case[0]))
def test_a_command_sends_shows_and_is_refused(
    peer: Peer, ctl: Ctl, case: tuple[list[str], str, Body, Body, str, list[Any]]
) -> None:
    arguments, op, body, answer, shown, lines = case
    peer.answers[op] = answer
    done = ctl(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown in done.stdout
    assert "\x1b" not in done.stdout
    assert (peer.requests[-1]["op"], peer.requests[-1]["body"]) == (op, body)

    done = ctl(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line) for line in done.stdout.splitlines()] == (lines or [answer])

    def refuse(_: Body) -> Body:
        raise Refuse("conflict", "it can't be done now")

    peer.answers[op] = refuse
    done = ctl(*arguments)
    assert (done.returncode, done.stdout) == (4, "")
    assert "it can't be done now" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["edit", "42"],
        ["edit", "42", "--priority", "high"],
        ["hold"],
        ["delete", "x42"],
        ["queues", "--limit", "4"],
        ["queues", "slow", "--limit", "0"],
        ["schedule", "add", "n", "@hourly"],
        ["schedule", "add", "n", "@hourly", "echo", "--overlap", "maybe"],
        ["schedule", "add", "n", "@hourly", "echo", "--expires", "2030-01-01T00:00:00Z"],
        ["memory", "set", "k"],
        ["memory", "set", "k", "@/no/such/file"],
        ["memory", "set", "k", "v", "--if-version", "-1"],
        ["memory", "list", "--namespaces", "--values"],
        ["submit", "echo", "--resource", "gpu"],
        ["submit", "echo", "--resource", "gpu=NaN"],
        ["submit", "echo", "--resource", "gpu=1", "--resource", "gpu=2"],
        ["submit", "echo", "--retry-on", "TimeoutError=1.5"],
        ["submit", "echo", "--expires", "soon"],
        ["submit", "echo", "--key-conflict", "maybe"],
        ["submit", "echo", "--weight", "2"],
        ["submit", "echo", "--stream"],
        ["submit", "echo", "--step", "a"],
        ["submit", "echo", "--grow"],
        ["submit", "echo", "--grow", "--name", "n"],
        ["submit", "-f", "x.jsonl", "--when", "true"],
        ["submit", "-f", "x.jsonl", "--key", "k"],
        ["submit", "-f", "x.jsonl", "--resource", "gpu=1"],
        ["submit", "-f", "x.jsonl", "--grow", "--stream"],
        ["submit", "-f", "-", "--order", "critical-path", "--stream"],
    ],
    ids=" ".join,
)
def test_usage_is_2_and_nothing_is_sent(peer: Peer, ctl: Ctl, arguments: list[str]) -> None:
    for extra in ([], ["--json"]):
        done = ctl(*arguments, *extra, stdin='{"type": "echo"}\n')
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert done.stderr.strip()
    assert json.loads(done.stderr)["error"]["message"]
    assert peer.requests == []


def test_the_limit_of_a_queue_is_set_and_lifted(peer: Peer, ctl: Ctl) -> None:
    peer.answers["queues"] = QUEUES
    assert "slow   paused  4" in ctl("queues", "slow", "--limit", "4").stdout
    assert ctl("queues", "slow", "--limit", "none").returncode == 0
    assert peer.bodies("queues") == [{"queue": "slow", "limit": 4}, {}, {"queue": "slow", "limit": None}, {}]
    done = ctl("queues", "nosuch")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no such queue" in done.stderr


def test_a_schedule_with_all_its_options(peer: Peer, ctl: Ctl) -> None:
    peer.answers["schedule_add"] = SCHEDULE
    done = ctl(
        *["schedule", "add", "n", "0 3 * * 1-5", "echo", "--data", '{"a": 1}', "--set", "b=two", "--priority", "8"],
        *["--queue", "slow", "--timeout", "1h", "--retries", "2", "--retry-on", "TimeoutError=10", "--backoff", "5"],
        *["--resource", "gpu=1", "--resource", "tokens=0.5", "--estimate", "2m", "--metadata", '{"who": "me"}'],
        *["--expires", "10m", "--zone", "Europe/Berlin", "--misfire", "all", "--misfire-limit", "3"],
        *["--overlap", "queue", "--paused", "--replace"],
    )
    assert done.returncode == 0, done.stderr
    assert peer.bodies("schedule_add") == [
        {
            "name": "n",
            "cron": "0 3 * * 1-5",
            "zone": "Europe/Berlin",
            "misfire": "all",
            "misfire_limit": 3,
            "overlap": "queue",
            "paused": True,
            "replace": True,
            "task": {
                "type": "echo",
                "data": {"a": 1, "b": "two"},
                "priority": 8,
                "queue": "slow",
                "timeout": 3600.0,
                "retries": 2,
                "retry_on": {"TimeoutError": 10},
                "backoff": 5.0,
                "resources": {"gpu": 1, "tokens": 0.5},
                "estimate": 120.0,
                "metadata": {"who": "me"},
                "expires_in": 600.0,
            },
        }
    ]


def test_values_of_the_shared_memory(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    peer.answers["memory_set"] = {"namespace": "default", "key": "k", "version": 1}
    (tmp_path / "text").write_text("two\nlines\n")
    (tmp_path / "json").write_text('{"a": [1]}\n')
    for value in ("42", '"42"', "plain text", "null", f"@{tmp_path / 'text'}", f"@{tmp_path / 'json'}", "-"):
        assert ctl("memory", "set", "k", value, stdin="from a pipe").returncode == 0
    assert ctl("memory", "set", "k", "v", "-n", "n", "--ttl", "1d", "--if-version", "0").returncode == 0
    *values, last = peer.bodies("memory_set")
    assert [body["value"] for body in values] == [
        42,
        "42",
        "plain text",
        None,
        "two\nlines\n",
        {"a": [1]},
        "from a pipe",
    ]
    assert last == {"key": "k", "value": "v", "namespace": "n", "ttl": 86400.0, "version": 0}


def test_the_memory_is_watched_without_gaps(peer: Peer, spawn: Spawn) -> None:
    journal = Journal(peer)
    process = spawn("memory", "watch", "mo")
    peer.await_subscription()
    peer.await_request("subscribe")
    changes = [
        {"namespace": "default", "key": "model", "version": 1, "deleted": False},
        {"namespace": "other", "key": "model", "version": 2, "deleted": False},
        {"namespace": "default", "key": "x", "version": 3, "deleted": False},
        {"namespace": "default", "key": "mo\x1bde", "version": None, "deleted": True},
    ]
    for change in changes:
        journal.add("memory", published=change is changes[-1], **change)
    assert process.stdout is not None
    assert process.stdout.readline().endswith("model  version 1\n")
    assert process.stdout.readline().endswith("mo\\x1bde  deleted\n")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_a_damaged_database_is_1(peer: Peer, ctl: Ctl) -> None:
    peer.answers["db_check"] = {"ok": False, "problems": ["page 5 is \x1bbad"], "seconds": 1.0}
    done = ctl("db", "check")
    assert (done.returncode, done.stdout) == (1, "page 5 is \\x1bbad\n")
    assert "damaged" in done.stderr
    assert ctl("db", "check", "--json").returncode == 1


def test_a_snapshot_goes_to_an_absolute_path(peer: Peer, ctl: Ctl) -> None:
    peer.answers["db_snapshot"] = {"path": "/x", "bytes": 1, "seconds": 0.1}
    assert ctl("db", "snapshot", "x.db").returncode == 0
    assert peer.bodies("db_snapshot") == [{"path": str(Path.cwd() / "x.db")}]


def test_events_that_are_gone_are_told(peer: Peer, ctl: Ctl) -> None:
    gone = {"first": 5, "last": 9, "topics": {"task.failed": 3, "worker": 2}}
    kept = [{"seq": 10, "at": 1.0, "topic": "worker", "worker": "w", "state": "up", "pid": 1}]
    peer.answers |= {
        "subscribe": {"endpoint": peer.events_endpoint, "epoch": 1, "next": 11, "topics": {}},
        "events": lambda body: {
            "events": kept if body["from"] <= 10 else [],
            "next": 11,
            "first_kept": 10,
            **({"missed": {**gone, "first": body["from"]}} if body["from"] < 10 else {}),
        },
    }
    first, second = ctl("events", "--from", "1").stdout.splitlines()
    assert first == "missed  events 1 to 9 were deleted before they were read: 3 task.failed, 2 worker"
    assert second.startswith("10  ")
    lines = ctl("events", "--from", "5", "--json").stdout.splitlines()
    assert json.loads(lines[0]) == {"topic": "missed", "first": 5, "last": 9, "topics": {}}
    assert len(ctl("events").stdout.splitlines()) == 1  # nobody asked for a certain number


def test_submit_sends_the_new_fields(peer: Peer, ctl: Ctl) -> None:
    peer.answers["submit"] = accept
    done = ctl(
        *["submit", "echo", "--after", "3", "--when", 'deps["3"].ok', "--expires", "1h", "--key", "k"],
        *["--key-ttl", "1d", "--key-conflict", "replace", "--resource", "gpu=1", "--retry-on", "TimeoutError=10"],
        *["--retry-on", "bad_input=0", "--backoff", "500ms", "--estimate", "90"],
    )
    assert (done.returncode, done.stdout) == (0, "task 42 submitted (flow f7)\n"), done.stderr
    assert ctl("submit", "echo", "--expires", "2030-01-01T00:00:00Z").returncode == 0
    first, second = peer.bodies("submit")
    assert first["tasks"] == [
        {
            "type": "echo",
            "deps": [{"number": 3}],
            "when": 'deps["3"].ok',
            "expires_in": 3600.0,
            "key": "k",
            "key_ttl": 86400.0,
            "key_conflict": "replace",
            "resources": {"gpu": 1},
            "retry_on": {"TimeoutError": 10, "bad_input": 0},
            "backoff": 0.5,
            "estimate": 90.0,
        }
    ]
    assert second["tasks"] == [{"type": "echo", "expires": 1893456000.0}]


def test_a_taken_key_is_told_and_its_task_waited_for(peer: Peer, ctl: Ctl) -> None:
    peer.answers |= {
        "submit": lambda body: {**accept(body), "first": 5, "flow": 2, "repeated": True, "key": "returned"},
        "wait": {"done": True, "total": 1, "ended": 1, "tasks": {"succeeded": 1}},
        "results": {
            "results": [{"number": 5, "type": "echo", "state": "succeeded", "ok": True, "result": 1}],
            "next": None,
        },
    }
    done = ctl("submit", "echo", "--key", "k")
    assert (done.returncode, done.stdout) == (0, "task 5 (flow f2)\n")
    assert "the key is taken" in done.stderr
    assert json.loads(ctl("submit", "echo", "--key", "k", "--json").stdout)["key"] == "returned"
    assert ctl("submit", "echo", "--key", "k", "--wait").stdout == "1\n"
    assert peer.bodies("wait")[0]["refs"] == peer.bodies("results")[0]["refs"] == ["5"]


def test_a_task_adds_to_its_flow(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    peer.answers["submit"] = accept
    inside = {"GEMFLOW_TASK": "41", "GEMFLOW_TOKEN": "7"}
    file = tmp_path / "more.yaml"
    file.write_text("name: more\ntasks:\n  - {id: b, type: echo, deps: [a]}\n  - {id: c, type: echo}\n")
    done = ctl("submit", "-f", str(file), "--grow", "--step", "found", **inside)
    assert (done.returncode, done.stdout) == (0, "2 tasks added to flow f7\n"), done.stderr
    assert ctl("submit", "echo", "--grow", **inside).stdout == "task 42 added to flow f7\n"
    first, second = peer.bodies("submit")
    assert first["grow"] == {"task": 41, "token": 7, "step": "found"}
    assert [task["id"] for task in first["tasks"]] == ["b", "c"]
    assert not {"name", "offset", "complete", "stream"} & set(first)
    assert second["grow"] == {"task": 41, "token": 7}

    peer.answers["submit"] = lambda body: {**accept(body), "repeated": True}
    done = ctl("submit", "-f", str(file), "--grow", "--step", "found", **inside)
    assert "this step was taken before" in done.stderr

    def refuse(_: Body) -> Body:
        raise Refuse("growth_limit", "1000 tasks are the most", "grow")

    peer.answers["submit"] = refuse
    done = ctl("submit", "echo", "--grow", **inside)
    assert done.returncode == 4
    assert "1000 tasks are the most" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def unknown(_: Body) -> Body:
    raise Refuse("not_found", "no such submission")


def test_a_flow_says_how_it_is_meant(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    peer.answers |= {"submit": accept, "submission": unknown}
    file = tmp_path / "x.jsonl"
    file.write_text('{"type": "echo"}\n' * 1500)
    assert ctl("submit", "-f", str(file), "--weight", "2.5", "--order", "critical-path").returncode == 0
    done = ctl("submit", "-f", str(file), "--stream", "--order", "fair")
    assert (done.returncode, done.stdout) == (0, "flow f7 submitted: 1500 tasks\n"), done.stderr
    *ordered, first, second = peer.bodies("submit")
    assert [(len(body["tasks"]), body["weight"], body["order"], body["complete"]) for body in ordered] == [
        (1000, 2.5, "critical-path", False),
        (500, 2.5, "critical-path", True),
    ]
    assert [(body["stream"], body["offset"], body["complete"]) for body in (first, second)] == [
        (True, 0, False),
        (True, 1000, True),
    ]


# JSON lines that are sent while they are read. A long line each, so that they are more than 8 MiB.

LINE = '{"type": "echo", "data": {"x": "' + "y" * 4000 + '"}}\n'


def large(path: Path, count: int = 2500, **replaced: str) -> Path:
    lines = [LINE] * count
    for number, line in replaced.items():
        lines[int(number.removeprefix("line_")) - 1] = line + "\n"
    path.write_text("".join(lines))
    return path


def received(peer: Peer) -> int:
    bodies = peer.bodies("submit")
    return bodies[-1]["offset"] + len(bodies[-1]["tasks"]) if bodies else 0


def test_a_large_file_goes_in_its_own_order(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    peer.answers |= {"submit": accept, "submission": unknown}
    done = ctl(
        "submit", "-f", str(large(tmp_path / "x.jsonl")), "--name", "many", "--weight", "2", "--order", "critical-path"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "flow f7 submitted: 2500 tasks\n", "")
    bodies = peer.bodies("submit")
    assert len(bodies) > 5
    assert received(peer) == 2500
    assert [body["complete"] for body in bodies] == [False] * (len(bodies) - 1) + [True]
    assert {(body["name"], body["weight"], body["order"]) for body in bodies} == {("many", 2.0, "critical-path")}


def test_a_bad_line_of_a_large_file_discards_what_was_sent(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    peer.answers |= {"submit": accept, "submission": unknown, "discard": {"flow": 7}}
    file = large(tmp_path / "x.jsonl", line_2400='{"type": "echo", "prioritee": 1}')
    done = ctl("submit", "-f", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{file}, line 2400: `prioritee` is not a field of a task; nothing is kept" in done.stderr
    assert peer.ops()[-1] == "discard"
    assert received(peer) > 1000
    error = json.loads(ctl("submit", "-f", str(file), "--json").stderr)["error"]
    assert (error["code"], error["discarded"], error["received"] > 1000) == ("invalid_input", True, True)

    peer.requests.clear()
    done = ctl("submit", "-f", str(large(tmp_path / "y.jsonl", line_1="{}")))
    assert done.returncode == 2
    assert "submit" not in peer.ops()


def test_a_bad_line_of_a_stream_leaves_what_runs(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    peer.answers |= {"submit": accept, "submission": {"flow": 7, "state": "active", "received": 2000}}
    file = large(tmp_path / "x.jsonl", line_2400="{}")
    done = ctl("submit", "-f", str(file), "--stream")
    assert done.returncode == 2
    assert "discard" not in peer.ops()
    uuid = peer.bodies("submit")[0]["submission"]
    assert "tasks before are submitted (f7) and run" in done.stderr
    assert f"gemflowctl submit -f {file} --stream --resume {uuid}" in done.stderr

    peer.requests.clear()
    done = ctl("submit", "-f", str(large(file)), "--stream", "--resume", uuid)
    assert (done.returncode, done.stdout) == (0, "flow f7 submitted: 2500 tasks\n"), done.stderr
    assert peer.bodies("submit")[0]["offset"] == 2000
    assert received(peer) == 2500


def test_a_dependency_that_comes_later_is_named_by_its_line(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    def look(body: Body) -> Body:
        for index, task in enumerate(body["tasks"]):
            if task.get("deps"):
                raise Refuse("unknown_dependency", "there is no task 'z'", f"tasks[{index}].deps[0]")
        return accept(body)

    peer.answers |= {"submit": look, "submission": unknown}
    file = large(tmp_path / "x.jsonl", line_1900='\n{"type": "echo", "deps": ["z"]}')
    done = ctl("submit", "-f", str(file))
    assert done.returncode == 4
    assert f"{file}, line 1901: there is no task 'z'" in done.stderr
    assert "has to stand before it" in done.stderr
    assert "nothing is kept" in done.stderr


def test_an_interrupted_large_file_goes_on(peer: Peer, spawn: Spawn, tmp_path: Path) -> None:
    def some(body: Body) -> Body:
        if body["offset"] > 1000:
            raise Silence
        return accept(body)

    peer.answers |= {"submit": some, "submission": {"flow": 7, "state": "open", "received": 1300}}
    file = large(tmp_path / "x.jsonl")
    process = spawn("submit", "-f", str(file))
    while received(peer) < 1300:
        peer.await_request("submit", len(peer.bodies("submit")) + 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    uuid = peer.bodies("submit")[0]["submission"]
    assert process.returncode == 130
    assert f"gemflowctl submit -f {file} --resume {uuid}" in err
    assert "discard" not in peer.ops()

    peer.requests.clear()
    peer.answers["submit"] = accept
    again = spawn("submit", "-f", str(file), "--resume", uuid)
    out, err = again.communicate(timeout=30)
    assert (again.returncode, out, err) == (0, "flow f7 submitted: 2500 tasks\n", "")
    assert peer.bodies("submit")[0]["offset"] == 1300


def test_going_on_with_what_the_daemon_does_not_know_is_told(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    peer.answers |= {"submit": accept, "submission": unknown}
    small = tmp_path / "small.jsonl"
    small.write_text('{"type": "echo"}\n')
    uuid = "0b9f2d3e-7a39-4a34-8f1a-5f5a1f0f0a11"
    for file in (small, large(tmp_path / "x.jsonl")):
        done = ctl("submit", "-f", str(file), "--resume", uuid)
        assert done.returncode == 0
        assert "the daemon does not know this submission: it begins anew" in done.stderr
        assert peer.bodies("submit")[-1]["submission"] == uuid


def test_a_pipe_that_streams_is_sent_before_it_ends(peer: Peer) -> None:
    peer.answers |= {"submit": accept, "submission": unknown}
    process = subprocess.Popen(
        command(peer.endpoint, "submit", "-f", "-", "--stream"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        process.stdin.write('{"type": "echo"}\n' * 1003)
        process.stdin.flush()
        peer.await_request("submit", 2)
        process.stdin.write('{"type": "echo"}\n{"type"')
        process.stdin.flush()
        peer.await_request("submit", 3)
        out, err = process.communicate(': "spin"}\n', timeout=30)
    assert (process.returncode, out, err) == (0, "flow f7 submitted: 1005 tasks\n", "")
    assert [(body["stream"], len(body["tasks"]), body["complete"]) for body in peer.bodies("submit")] == [
        (True, 1000, False),
        (True, 3, False),
        (True, 1, False),
        (True, 1, True),
    ]


def test_a_refusal_of_a_slow_stream_is_not_kept_until_more_comes(peer: Peer) -> None:
    def refuse(_: Body) -> Body:
        raise Refuse("invalid_data", "no", "tasks[1].data")

    peer.answers |= {"submit": refuse, "submission": unknown}
    process = subprocess.Popen(
        command(peer.endpoint, "submit", "-f", "-", "--stream"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        process.stdin.write('{"type": "echo"}\n' * 2)
        process.stdin.flush()
        assert process.wait(30) == 4
        assert process.stderr is not None
        assert "standard input, line 2: no" in process.stderr.read()


def test_memory_stays_flat(peer: Peer, tmp_path: Path) -> None:
    peer.answers |= {"submit": accept, "submission": unknown}
    small, big = large(tmp_path / "a.jsonl", 2_500), large(tmp_path / "b.jsonl", 15_000)
    peaks = []
    for file in (small, big):
        process = subprocess.Popen(command(peer.endpoint, "submit", "-f", str(file)), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss)
    assert peaks[1] < peaks[0] + 10_000, "six times the file must not need 10 MB more"
