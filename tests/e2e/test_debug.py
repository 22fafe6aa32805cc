"""`DEBUG=parallel:*`: what daemon, workers and client tell, and what they keep to themselves."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.ctl import Ctl
from helpers.daemon import running

SECRET = "AIzaSy-not-a-real-key"
PAYLOAD = "hunter2-is-not-to-be-seen"


def test_the_daemon_and_its_workers_tell_what_they_do(tmp_path: Path) -> None:
    debug = {"DEBUG": "parallel:*,-parallel:server,parallel:qeue", "GEMINI_API_KEY": SECRET}
    with running("--log-format", "json", env=debug, workers=1) as daemon:
        client = daemon.client()
        first = client.run({"type": "echo", "data": {"x": PAYLOAD}})[0]["number"]
        program = f"echo {PAYLOAD}; exit 1"
        client.run({"type": "command", "data": {"args": ["sh", "-c", program]}, "retries": 0})
        client("memory_set", key=PAYLOAD, value=PAYLOAD)
        Ctl(daemon.endpoint, tmp_path)("workers", "restart")
        daemon.stop()
        text = daemon.log_text()
    assert PAYLOAD not in text
    assert SECRET not in text
    lines = [json.loads(line) for line in text.splitlines()]
    told = {
        room: [line for line in lines if line["logger"] == f"gemflow.{room}"] for room in ("queue", "pool", "worker")
    }
    assert any("1 Submit" in line["message"] and "1 starts" in line["message"] for line in told["queue"])
    for said in (f"is handed tasks {first}", f"task {first} in b1: done", "was forked", "is to leave"):
        assert any(said in line["message"] for line in told["pool"]), said
    for said in ("worker b1 is up", f"b1: task {first} begins, attempt 1"):
        assert any(said in line["message"] for line in told["worker"]), said
    assert not [line for line in lines if line["logger"] == "gemflow.server" and line["level"] == "debug"]
    assert len([line for line in lines if "parallel:qeue names nothing" in line["message"]]) == 1


def test_nothing_is_told_unless_asked() -> None:
    with running("--log-format", "json", workers=1) as daemon:
        daemon.client().run({"type": "echo"})
        daemon.stop()
        assert not [line for line in daemon.log_text().splitlines() if json.loads(line)["level"] == "debug"]


def test_the_client_shows_its_frames(tmp_path: Path) -> None:
    with running(workers=1) as daemon:
        ctl = Ctl(daemon.endpoint, tmp_path, DEBUG="parallel:*")
        ran = ctl("submit", "echo", "--set", f"x={PAYLOAD}", "--wait")
        assert json.loads(ran.stdout) == {"x": PAYLOAD}, "the result is as ever"
        assert "parallel:client → submit #1" in ran.stderr
        assert "parallel:client ← submit #1 ok" in ran.stderr
        assert PAYLOAD not in ran.stderr
