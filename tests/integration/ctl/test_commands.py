"""`gemflowctl` as a process against a scripted daemon: exit codes, what is written where, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.ctl.ctlpeer import Body, Peer, Refuse, Silence, accept, command

Ctl = Callable[..., "subprocess.CompletedProcess[str]"]
Spawn = Callable[..., "subprocess.Popen[str]"]

LINE = {
    "id": "a",
    "number": 42,
    "flow": 7,
    "type": "echo",
    "state": "succeeded",
    "ok": True,
    "result": {"x": 1},
    "attempts": 1,
    "seconds": 0.1,
}
FAILED = {
    **LINE,
    "state": "failed",
    "ok": False,
    "error": {"class": "permanent", "code": "bad", "message": "no \x1b[31m"},
}
DONE = {"done": True, "total": 1, "ended": 1, "tasks": {"succeeded": 1}}
STATS = {
    "at": 1700000000.0,
    "uptime": 5.0,
    "active": 1,
    "queued": 2,
    "waiting": 3,
    "completed": 4,
    "failed": 5,
    "cancelled": 6,
    "skipped": 7,
    "average_seconds": 0.25,
    "throughput": 8.5,
    "refused_outcomes": 2,
    "workers": [
        {
            "name": "blocking-1",
            "kind": "blocking",
            "pid": 99,
            "state": "busy",
            "rss_bytes": 7_500_000,
            "active": 1,
            "tasks": [42],
            "done": 3,
            "started": 1700000000.0,
        }
    ],
}


def test_no_daemon_is_3_and_says_what_to_do(directory: Path) -> None:
    for extra in ((), ("--json",)):
        done = subprocess.run(
            command(f"ipc://{directory}/none.sock", "status", *extra), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (3, "")
        text = done.stderr
        if extra:
            error = json.loads(text)["error"]
            assert error["code"] == "no_daemon"
            text = error["message"]
        assert f"{directory}/none.sock" in text
        assert "gemflowd run" in text


def test_a_refusal_is_4(peer: Peer, ctl: Ctl) -> None:
    def refuse(_: Body) -> Body:
        raise Refuse("not_found", "there is no task 42", "ref")

    peer.answers["show"] = refuse
    done = ctl("show", "42")
    assert (done.returncode, done.stdout) == (4, "")
    assert "there is no task 42 (at ref)" in done.stderr
    done = ctl("show", "42", "--json")
    assert json.loads(done.stderr) == {"error": {"code": "not_found", "message": "there is no task 42", "path": "ref"}}


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "x42"],
        ["nonsense"],
        ["submit"],
        ["submit", "echo", "more"],
        ["submit", "echo", "--set", "novalue"],
        ["submit", "echo", "--data", "[1]"],
        ["submit", "echo", "--after", "f7"],
        ["submit", "echo", "--at", "2030-01-01T00:00"],
        ["submit", "-f", "missing.jsonl"],
        ["submit", "-f", "x.jsonl", "--priority", "3"],
        ["workers", "0"],
        ["config", "set"],
        ["--endpoint", "tcp://1.2.3.4:5", "ping"],
        ["monitor"],
    ],
)
def test_usage_is_2_and_nothing_is_sent(peer: Peer, ctl: Ctl, arguments: list[str]) -> None:
    done = ctl(*arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.strip()
    assert json.loads(ctl(*arguments, "--json").stderr if arguments != ["monitor"] else '{"error": 1}')["error"]
    assert [op for op in peer.ops() if op == "submit"] == []


def test_a_wait_that_takes_too_long_is_5(peer: Peer, ctl: Ctl) -> None:
    peer.answers["wait"] = {"done": False, "total": 2, "ended": 1, "tasks": {"running": 1, "failed": 1}}
    done = ctl("wait", "f7", "--timeout", "10ms")
    assert done.returncode == 5
    assert "1 of 2 tasks ended" in done.stderr


@pytest.mark.parametrize(
    ("tasks", "code"),
    [
        ({"succeeded": 2}, 0),
        ({"succeeded": 2, "skipped": 1}, 0),
        ({"succeeded": 1, "failed": 1}, 1),
        ({"cancelled": 1, "succeeded": 1}, 1),
        ({"skipped": 1}, 1),
    ],
)
def test_wait_says_whether_it_went_well(peer: Peer, ctl: Ctl, tasks: dict[str, int], code: int) -> None:
    peer.answers["wait"] = {**DONE, "tasks": tasks}
    assert ctl("wait", "42").returncode == code


def test_ctrl_c_is_130(peer: Peer, spawn: Spawn) -> None:
    def silence(_: Body) -> Body:
        raise Silence

    peer.answers["wait"] = silence
    process = spawn("wait", "42")
    peer.await_request("wait")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (130, "", "")


def test_ctrl_c_in_a_large_submission_says_how_to_go_on(peer: Peer, spawn: Spawn, tmp_path: Path) -> None:
    def only_the_first(body: Body) -> Body:
        if body["offset"]:
            raise Silence
        return accept(body)

    peer.answers |= {"submit": only_the_first, "submission": _not_found}
    file = tmp_path / "my tasks.jsonl"
    file.write_text('{"type": "echo"}\n' * 2500)
    process = spawn("submit", "-f", str(file))
    peer.await_request("submit", 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    uuid = peer.bodies("submit")[0]["submission"]
    assert process.returncode == 130
    assert f"gemflowctl submit -f '{file}' --resume {uuid}" in err
    assert "1000 of 2500" in err

    peer.answers |= {"submit": accept, "submission": {"flow": 7, "state": "open", "received": 2000}}
    again = spawn("submit", "-f", str(file), "--resume", uuid)
    out, err = again.communicate(timeout=30)
    assert (again.returncode, out) == (0, "flow f7 submitted: 2500 tasks\n"), err
    assert peer.bodies("submit")[-1]["offset"] == 2000


def _not_found(_: Body) -> Body:
    raise Refuse("not_found", "no such submission")


def test_submit_sends_one_task_with_all_its_options(peer: Peer, ctl: Ctl) -> None:
    peer.answers["submit"] = accept
    done = ctl(
        "submit",
        "echo",
        "--data",
        '{"a": {"b": 1}}',
        "--set",
        "a.c=[2]",
        "--set",
        "text=two words",
        "--id",
        "mine",
        "--after",
        "3-4:done",
        "--after",
        "f7/a",
        "--priority",
        "8",
        "--queue",
        "slow",
        "--delay",
        "2m",
        "--at",
        "2030-01-01T00:00:00Z",
        "--timeout",
        "1h",
        "--retries",
        "0",
        "--metadata",
        '{"who": "me"}',
        "--name",
        "nightly",
    )
    assert (done.returncode, done.stdout) == (0, "task 42 submitted (flow f7)\n"), done.stderr
    (body,) = peer.bodies("submit")
    assert body["name"] == "nightly"
    assert body["tasks"] == [
        {
            "type": "echo",
            "data": {"a": {"b": 1, "c": [2]}, "text": "two words"},
            "id": "mine",
            "priority": 8,
            "deps": [{"number": 3, "on": "done"}, {"number": 4, "on": "done"}, {"flow": 7, "id": "a"}],
            "queue": "slow",
            "delay": 120.0,
            "run_at": 1893456000.0,
            "timeout": 3600.0,
            "retries": 0,
            "metadata": {"who": "me"},
        }
    ]


def test_submit_waits_and_shows_the_result(peer: Peer, ctl: Ctl) -> None:
    peer.answers |= {"submit": accept, "wait": DONE, "results": {"results": [LINE], "next": None}}
    done = ctl("submit", "echo", "--wait")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"x": 1})
    done = ctl("submit", "echo", "--wait", "--json")
    reply, line = map(json.loads, done.stdout.splitlines())
    assert (reply["flow"], line) == (7, LINE)

    peer.answers |= {"wait": {**DONE, "tasks": {"failed": 1}}, "results": {"results": [FAILED], "next": None}}
    done = ctl("submit", "echo", "--wait")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "task a failed: no \\x1b[31m\n"


def test_a_bad_line_is_named_and_nothing_is_sent(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"type": "echo"}\n\n{"type": "echo", "prioritee": 3}\n')
    done = ctl("submit", "-f", str(file))
    assert done.returncode == 2
    assert f"{file}, line 3: `prioritee` is not a field of a task" in done.stderr
    done = ctl("submit", "-f", "-", stdin='{"type": "echo"}\n{"type": ')
    assert done.returncode == 2
    assert "standard input, line 2" in done.stderr
    assert peer.requests == []


def test_a_refused_task_is_named_by_its_line(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    def refuse(_: Body) -> Body:
        raise Refuse("unknown_type", "no handler for 'ecko'", "tasks[1].type")

    peer.answers["submit"] = refuse
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"type": "echo"}\n\n{"type": "ecko"}\n')
    done = ctl("submit", "-f", str(file))
    assert done.returncode == 4
    assert f"{file}, line 3: no handler for 'ecko'" in done.stderr


def test_several_files_make_one_flow(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    peer.answers["submit"] = accept
    (tmp_path / "a.jsonl").write_text('{"id": 1, "task": "one", "agent": "researcher"}\n')
    (tmp_path / "b.yaml").write_text("name: both\ntasks:\n  - id: two\n    task: two\n    deps: [{id: 1, on: done}]\n")
    done = ctl("submit", "-f", str(tmp_path / "a.jsonl"), str(tmp_path / "b.yaml"), "--quiet")
    assert done.returncode == 2  # --quiet belongs before the command
    done = ctl("--quiet", "submit", "-f", str(tmp_path / "a.jsonl"), str(tmp_path / "b.yaml"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "f7\n", "")
    (body,) = peer.bodies("submit")
    assert (body["name"], len(body["tasks"])) == ("both", 2)
    assert body["tasks"][1]["deps"] == [{"id": 1, "on": "done"}]


def test_prompt(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    peer.answers |= {
        "submit": accept,
        "wait": DONE,
        "results": {"results": [{**LINE, "result": {"text": "blue\x07"}}], "next": None},
    }
    done = ctl("prompt", "Why", "is it", "--model", "gemini-x", "--wait")
    assert (done.returncode, done.stdout) == (0, "blue\\x07\n")
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    assert ctl("prompt", "-", "--each-line", "--schema", str(schema), stdin="one\n\n two \n").returncode == 0
    first, second = peer.bodies("submit")
    assert first["tasks"] == [{"type": "gemini", "data": {"prompt": "Why is it", "model": "gemini-x"}}]
    assert [task["data"] for task in second["tasks"]] == [
        {"prompt": "one", "schema": {"type": "object"}},
        {"prompt": "two", "schema": {"type": "object"}},
    ]


def test_results_go_to_standard_output_or_whole_into_a_file(peer: Peer, ctl: Ctl, tmp_path: Path) -> None:
    bad = {**LINE, "result": {"raw": b"\x00\xff", "text": "a\u009b31m\u202e"}}
    peer.answers["results"] = {"results": [LINE, bad], "next": None}
    done = ctl("results", "f7")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        LINE,
        {**bad, "result": {"raw": {"$bytes": "AP8="}, "text": "a\u009b31m\u202e"}},
    ]
    assert "\u009b" not in done.stdout
    target = tmp_path / "out.jsonl"
    assert ctl("results", "42-43", "-o", str(target)).returncode == 0
    assert target.read_text() == done.stdout
    peer.answers["results"] = _not_found
    assert ctl("results", "42-43", "-o", str(target)).returncode == 4
    assert target.read_text() == done.stdout
    assert list(tmp_path.iterdir()) == [target]


def test_a_reader_that_goes_away_is_no_error_message(peer: Peer) -> None:
    peer.answers["results"] = lambda body: {"results": [LINE] * 1000, "next": body.get("after", 0) + 1}
    process = subprocess.Popen(command(peer.endpoint, "results", "f7"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait(30) == 141


def test_logs_cannot_send_escapes(peer: Peer, ctl: Ctl) -> None:
    line = {"seq": 1, "at": 1.0, "attempt": 1, "stream": "stdout", "text": "red \x1b]0;title\x07 \u202e end\n"}
    peer.answers["logs"] = {"lines": [line], "next": 1, "ended": True}
    assert ctl("logs", "42").stdout == "red \\x1b]0;title\\x07 \\u202e end\n"
    assert json.loads(ctl("logs", "42", "--json").stdout) == line


def test_logs_are_chosen_by_attempt_and_stream(peer: Peer, ctl: Ctl) -> None:
    lines = [
        {"seq": seq, "at": 1.0, "attempt": attempt, "stream": stream, "text": f"{seq}"}
        for seq, (attempt, stream) in enumerate([(1, "stdout"), (1, "log"), (2, "stderr"), (2, "stdout")], 1)
    ]
    peer.answers["logs"] = {"lines": lines, "next": 4, "ended": True}
    assert ctl("logs", "42", "--attempt", "2").stdout == "3\n4\n"
    assert ctl("logs", "42", "--stream", "log", "--stream", "stderr").stdout == "2\n3\n"
    first = ctl("logs", "42", "-t", "--stream", "log").stdout
    assert first.endswith(".000 1 log    2\n"), first
    peer.answers["logs"] = {
        "lines": [{**lines[0], "task": 7, "id": None}, {**lines[1], "task": 8, "id": "a"}],
        "next": 2,
        "ended": True,
    }
    assert ctl("logs", "f3").stdout == "7: 1\na: 2\n"


def test_the_other_commands_show_what_the_daemon_says(peer: Peer, ctl: Ctl) -> None:
    task = {
        "number": 42,
        "id": "[bold]a",
        "flow": 7,
        "type": "echo",
        "state": "failed",
        "priority": 5,
        "queue": "default",
        "created": 1700000000.0,
        "started": 1700000001.0,
        "finished": 1700000002.5,
        "attempts": 1,
        "reason": "x\ny",
        "worker": "w",
    }
    flow = {
        "kind": "flow",
        "flow": 7,
        "name": "n",
        "state": "failed",
        "submission": "u",
        "created": 1.0,
        "finished": None,
        "total": 1,
        "tasks": {"failed": 1},
    }
    peer.answers |= {
        "status": lambda body: (
            {"items": [flow, {"kind": "task", **task}]}
            if body
            else {
                "version": "9.9",
                "pid": 1,
                "epoch": 1,
                "state": "running",
                "started": 1.0,
                "uptime": 90.0,
                "profile": "balanced",
                "tasks": {"failed": 1},
                "flows": {"failed": 1},
                "workers": {"blocking": 2},
                "slots": {"coroutine": 20},
                "paused_limits": [],
            }
        ),
        "list": {"tasks": [task], "next": None},
        "show": {
            **task,
            "data": {"x": "\x1b"},
            "metadata": {},
            "timeout": 5.0,
            "retries": 3,
            "due": None,
            "deps": [{"number": 41, "id": None, "on": "success", "state": "succeeded"}],
            "dependents": [43],
            "attempts_log": [
                {
                    "number": 1,
                    "worker": "w",
                    "started": 1.0,
                    "finished": 2.0,
                    "outcome": "error",
                    "seconds": 1.0,
                    "error": {"message": "boom"},
                    "peak_kb": 7500,
                }
            ],
            "error": {"class": "error", "code": "x", "message": "boom"},
        },
        "stats": STATS,
        "workers": {"workers": STATS["workers"], "count": 1, "slots": {"blocking": 1}},
        "profile": {
            "profile": "balanced",
            "values": {"workers": 1},
            "shadowed": [{"key": "workers", "value": 2, "origin": "run time"}],
        },
        "config": {
            "settings": [
                {"key": "workers", "value": 2, "origin": "run time", "unit": None, "default": 1, "doc": "how many"}
            ]
        },
        "handlers": {
            "handlers": [
                {
                    "type": "echo",
                    "kind": "coroutine",
                    "schema": {},
                    "doc": "Gives back.\nMore",
                    "bucket": None,
                    "module": "m",
                }
            ],
            "agents": [{"name": "researcher", "description": "d"}],
        },
        "cancel": {"cancelled": 1, "requested": 2, "unchanged": 3},
        "retry": {"retried": 1, "unchanged": 0},
        "shutdown": {"state": "draining"},
        "subscribe": {"endpoint": peer.events_endpoint, "epoch": 1, "next": 3, "topics": {}},
        "events": lambda body: {
            "events": [{"seq": 2, "at": 1.0, "topic": "task.ready", "task": 42, "flow": 7, "id": None}]
            if body["from"] < 3
            else [],
            "next": 3,
            "first_kept": 1,
        },
    }
    expected = {
        ("status",): "running",
        ("status", "f7", "42"): "1 failed",
        ("parallel", "status"): "balanced",
        ("list",): "42      [bold]a  f7    echo  failed",
        ("show", "42"): '"x": "\\u001b"',
        ("stats",): "refused outcomes  2",
        ("workers",): "7.5 MB",
        ("workers", "4"): "blocking-1",
        ("profile",): "balanced",
        ("config",): "how many",
        ("config", "set", "workers=2"): "run time",
        ("handlers",): "Gives back.",
        ("cancel", "42"): "1 cancelled, 2 asked to stop, 3 had ended before",
        ("retry", "f7"): "1 go back",
        ("shutdown",): "",
        ("events",): "task.ready  task=42  flow=7",
        ("ping",): "pid 1",
    }
    for arguments, text in expected.items():
        done = ctl(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        assert text in done.stdout, (arguments, done.stdout)
        assert "\x1b" not in done.stdout
        done = ctl(*arguments, "--json")
        assert done.returncode == 0, (arguments, done.stderr)
        assert [json.loads(line) for line in done.stdout.splitlines()], arguments
        assert done.stderr == ""


def test_the_monitor_draws_and_q_quits(peer: Peer) -> None:
    peer.answers["stats"] = STATS
    master, slave = pty.openpty()
    os.set_blocking(master, True)
    process = subprocess.Popen(
        [*command(peer.endpoint, "monitor")],
        stdin=slave,
        stdout=slave,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
    )
    os.close(slave)
    try:
        while peer.await_subscription() != b"\x01worker":
            pass
        peer.publish(
            "worker", 0, [{"seq": 1, "at": 1.0, "topic": "worker", "worker": "\x1b]0;evil", "state": "idle", "pid": 5}]
        )
        peer.publish("stats", 0, [{**STATS, "queued": 98765}])
        shown = b""
        while b"98,765" not in shown or b"evil" not in shown:
            shown += os.read(master, 65536)
        os.write(master, b"q")
        assert process.wait(30) == 0
    finally:
        process.kill()
        _, stderr = process.communicate()
        os.close(master)
    assert stderr == b""
    assert b"\x1b]0;evil" not in shown
    assert b"blocking-1" in shown


def test_figures_as_lines(peer: Peer, spawn: Spawn) -> None:
    peer.answers["stats"] = STATS
    for arguments in (["monitor", "--json"], ["stats", "-f", "--json"]):
        process = spawn(*arguments)
        while peer.await_subscription() != b"\x01stats":
            pass
        peer.publish("stats", 0, [STATS])
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == STATS
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        while peer.publisher.poll(0):
            peer.publisher.recv()


def test_completion_prints_a_script_for_each_shell() -> None:
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [sys.executable, "-m", "gemflowctl", "completion", shell], capture_output=True, text=True, check=True
        )
        assert "_GEMFLOWCTL_COMPLETE" in done.stdout
