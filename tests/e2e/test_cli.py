"""A real gemflowctl against a real gemflowd, as a person types it: output, exit codes, and what a break in the middle does."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.ctl import Ctl
from helpers.daemon import Daemon, running


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running("--offline", profile="performance") as daemon:
        yield daemon


@pytest.fixture
def ctl(daemon: Daemon, tmp_path: Path) -> Ctl:
    return Ctl(daemon.endpoint, tmp_path)


def test_one_task_waited_for(ctl: Ctl) -> None:
    done = ctl("submit", "echo", "--set", "x=1", "--set", "name=ann", "--wait")
    assert json.loads(done.stdout) == {"x": 1, "name": "ann"}


def test_a_failed_task_is_exit_1(ctl: Ctl) -> None:
    data = json.dumps({"args": [sys.executable, "-c", "raise SystemExit(64)"]})
    assert "64" in ctl("submit", "command", "--data", data, "--wait", status=1).stderr


@pytest.mark.parametrize("name", ["flow.jsonl", "flow.json", "flow.yaml", "flow.toml"])
def test_a_flow_from_a_file(ctl: Ctl, name: str) -> None:
    texts = {
        "flow.jsonl": '{"id": "a", "type": "echo", "data": {"n": 1}}\n'
        '{"id": "b", "type": "echo", "data": {"n": "{{ deps.a.n + 1 }}"}, "deps": ["a"]}\n',
        "flow.json": '[{"id": "a", "type": "echo", "data": {"n": 1}},'
        ' {"id": "b", "type": "echo", "data": {"n": "{{ deps.a.n + 1 }}"}, "deps": ["a"]}]',
        "flow.yaml": "tasks:\n- {id: a, type: echo, data: {n: 1}}\n"
        "- {id: b, type: echo, data: {n: '{{ deps.a.n + 1 }}'}, deps: [a]}\n",
        "flow.toml": '[[tasks]]\nid = "a"\ntype = "echo"\ndata = {n = 1}\n'
        '[[tasks]]\nid = "b"\ntype = "echo"\ndata = {n = "{{ deps.a.n + 1 }}"}\ndeps = ["a"]\n',
    }
    (ctl.directory / name).write_text(texts[name])
    flow = ctl.json("submit", "-f", name)["flow"]
    ctl("wait", f"f{flow}")
    results = ctl.lines("results", f"f{flow}")
    assert [(line["id"], line["result"]) for line in results] == [("a", {"n": 1}), ("b", {"n": "2"})]


def test_the_guide_s_flow_of_agents(ctl: Ctl) -> None:
    example = Path(__file__).parents[2] / "examples" / "research.yaml"
    flow = ctl.json("submit", "-f", str(example))["flow"]
    ctl("wait", f"f{flow}")
    results = ctl.lines("results", f"f{flow}")
    assert len(results) == 4
    assert all(line["ok"] and line["result"]["stand_in"] for line in results)
    shown = ctl.json("show", f"f{flow}/{results[-1]['id']}")
    assert shown["data"]["system"], "the persona is stored with the task"


def test_a_long_jsonl_from_stdin_in_order(ctl: Ctl) -> None:
    count = 2_500
    text = "".join(json.dumps({"id": n, "type": "echo", "data": {"n": n}}) + "\n" for n in range(count))
    flow = ctl.json("submit", "-f", "-", "--format", "jsonl", stdin=text)["flow"]
    ctl("wait", f"f{flow}")
    ctl("results", f"f{flow}", "-o", "out.jsonl")
    lines = [json.loads(line) for line in (ctl.directory / "out.jsonl").read_text().splitlines()]
    assert [line["result"]["n"] for line in lines] == list(range(count))


def test_a_bad_line_is_named_and_nothing_is_stored(ctl: Ctl) -> None:
    before = ctl.json("status")["flows"]
    (ctl.directory / "bad.jsonl").write_text('{"type": "echo"}\n{"type": "echo"\n')
    assert "bad.jsonl" in (said := ctl("submit", "-f", "bad.jsonl", status=2).stderr)
    assert "2" in said
    (ctl.directory / "unknown.jsonl").write_text('{"type": "echo"}\n{"type": "nope"}\n')
    error = json.loads(ctl("--json", "submit", "-f", "unknown.jsonl", status=4).stderr)["error"]
    assert error["code"] == "unknown_type"
    ctl("submit", "-f", "missing.jsonl", status=2)
    assert ctl.json("status")["flows"] == before


def test_the_same_submission_again_stores_nothing_twice(ctl: Ctl) -> None:
    (ctl.directory / "f.jsonl").write_text('{"type": "echo"}\n' * 1_500)
    first = ctl.json("submit", "-f", "f.jsonl")
    again = ctl.json("submit", "-f", "f.jsonl", "--resume", first["submission"])
    assert again["flow"] == first["flow"]
    assert ctl.json("status", f"f{first['flow']}")["total"] == 1_500


def test_cancel_and_retry(ctl: Ctl) -> None:
    flow = ctl.json("submit", "sleep", "--set", "seconds=60")["flow"]
    ctl("cancel", f"f{flow}")
    ctl("wait", f"f{flow}", status=1)
    assert ctl.json("status", f"f{flow}")["state"] == "cancelled"
    ctl("retry", f"f{flow}")
    ctl("wait", f"f{flow}", "--timeout", "0.2", status=5)
    ctl("cancel", f"f{flow}")
    ctl("wait", f"f{flow}", status=1)


def test_logs_of_a_program(ctl: Ctl) -> None:
    script = "import sys; print('to stderr', file=sys.stderr); print('{\"n\": 3}')"
    flow = ctl.json("submit", "command", "--data", json.dumps({"args": [sys.executable, "-c", script]}))["flow"]
    ctl("wait", f"f{flow}")
    number = ctl.lines("results", f"f{flow}")[0]
    assert number["result"] == {"stdout": {"n": 3}, "exit_code": 0}
    assert "to stderr" in ctl("logs", str(number["number"])).stdout


def test_refusals_name_field_and_code(ctl: Ctl) -> None:
    assert "nope" in ctl("submit", "nope", status=4).stderr
    assert json.loads(ctl("--json", "show", "999999", status=4).stderr)["error"]["code"] == "not_found"
    ctl("submit", "echo", "--data", "{", status=2)
    ctl("wait", "what?", status=2)
    ctl("submit", "gemini", "--data", '{"prompt": "x", "agent": "nobody"}', status=4)


def test_settings_at_run_time(ctl: Ctl) -> None:
    assert ctl.json("workers", "3")["count"] == 3
    shadowed = ctl.json("profile", "conservative")["shadowed"]
    assert {"key": "workers", "value": 3, "origin": "run time"} in shadowed
    ctl("config", "set", "retries=1")
    assert {row["key"]: row["origin"] for row in ctl.lines("config")}["retries"] == "run time"
    ctl("config", "reset", "workers", "profile", "retries")
    assert {row["key"]: row["value"] for row in ctl.lines("config")}["profile"] == "performance"


def test_prompt(ctl: Ctl) -> None:
    assert "[stand-in]" in ctl("prompt", "Why is the sky blue? Air scatters blue light.", "--wait").stdout


def test_without_a_daemon(tmp_path: Path) -> None:
    said = Ctl(f"ipc://{tmp_path}/none.sock", tmp_path)("status", status=3).stderr
    assert "none.sock" in said
    assert "gemflowd run" in said


def test_everything_is_found_again_after_kill_9(tmp_path: Path) -> None:
    with running("--offline") as daemon:
        ctl = Ctl(daemon.endpoint, tmp_path)
        (tmp_path / "f.jsonl").write_text('{"type": "sleep", "data": {"seconds": 0.05}}\n' * 60)
        flow = ctl.json("submit", "-f", "f.jsonl")["flow"]
        daemon.kill()
        daemon.restart()
        ctl("wait", f"f{flow}", "--timeout", "60")
        assert len(ctl.lines("results", f"f{flow}")) == 60
