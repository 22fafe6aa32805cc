"""JSON lines in and out, one for each key, with a client that is killed in the middle at both ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from helpers.ctl import Ctl
from helpers.daemon import Daemon, environment, running
from helpers.raw import Raw, Refusal
from helpers.waiting import until

COUNT = 2_200


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running("--offline", workers=1) as daemon:
        yield daemon


@pytest.fixture
def ctl(daemon: Daemon, tmp_path: Path) -> Ctl:
    return Ctl(daemon.endpoint, tmp_path)


def start(ctl: Ctl, daemon: Daemon, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "gemflowctl", *arguments],
        cwd=ctl.directory,
        env=environment(GEMFLOW_ENDPOINT=daemon.endpoint),
        stdin=subprocess.PIPE,
    )


def received(ask: Raw, uuid: str) -> int:
    try:
        return int(ask("submission", submission=uuid)["received"])
    except Refusal:
        return 0


def written(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_client_that_is_killed_while_it_submits_goes_on(daemon: Daemon, ctl: Ctl) -> None:
    text = "x" * 4_000
    lines = "".join(json.dumps({"key": f"k{n}", "text": text, "n": n}) + "\n" for n in range(COUNT)).encode()
    (ctl.directory / "in.jsonl").write_bytes(lines)
    template = json.dumps({"type": "echo", "data": {"n": "{{ n }}"}})
    uuid, ask, events = str(uuid4()), daemon.client(), daemon.subscriber("task")
    # Out of a pipe whose end does not come: it is in the middle for certain.
    with start(
        ctl, daemon, "submit", "-f", "-", "--format", "jsonl", "--template", template, "--resume", uuid
    ) as client:
        assert client.stdin is not None
        client.stdin.write(lines)
        client.stdin.flush()
        while not received(ask, uuid):
            events.next()
        client.kill()
    assert received(ask, uuid) < COUNT
    flow = ctl.json("submit", "-f", "in.jsonl", "--template", template, "--resume", uuid)["flow"]
    done = ctl("results", f"f{flow}", "-o", "out.jsonl", "--follow")
    assert f"{COUNT} results" in done.stderr
    assert [(line["id"], line["result"]["n"]) for line in written(ctl.directory / "out.jsonl")] == [
        (f"k{n}", n) for n in range(COUNT)
    ]
    again = "".join(json.dumps({"key": key, "text": text, "n": 0}) + "\n" for key in (*range(COUNT), 7))
    (ctl.directory / "twice.jsonl").write_text(again)
    refused = ctl("submit", "-f", "twice.jsonl", "--template", template, status=4).stderr
    assert f"twice.jsonl, line {COUNT + 1}: " in refused
    assert "(it was used before: twice.jsonl, line 8)" in refused


@pytest.mark.parametrize("how", [(), ("--as-completed",), ("--format", "gemini-batch")])
def test_a_client_that_is_killed_while_it_writes_goes_on(daemon: Daemon, ctl: Ctl, how: tuple[str, ...]) -> None:
    ask = daemon.client()
    # In the middle of its own order it waits for one that does not end by itself.
    tasks: list[dict[str, Any]] = [{"type": "gemini", "id": n, "data": {"prompt": f"{n}"}} for n in range(40)]
    tasks[20] = {"type": "sleep", "id": 20, "data": {"seconds": 60}}
    reply = ask.submit(*tasks)
    flow = f"f{reply['flow']}"
    there = 39 if "--as-completed" in how else 20
    with start(ctl, daemon, "results", flow, "-o", "out.jsonl", "--follow", *how) as client:
        until(
            lambda: sum(part.read_bytes().count(b"\n") for part in ctl.directory.glob(".out.jsonl.*.part")) == there,
            ctl.directory,
        )
        client.kill()
    (part,) = ctl.directory.glob(".out.jsonl.*.part")
    with part.open("ab") as torn:
        torn.write(b'{"id": 20, "number"')
    ask("cancel", refs=[f"{flow}/20"])
    done = ctl("results", flow, "-o", "out.jsonl", "--follow", *how)
    assert f"{there} results are there already" in done.stderr
    keys = [line.get("key", line.get("id")) for line in written(ctl.directory / "out.jsonl")]
    assert sorted(keys) == list(range(40))
    assert keys == sorted(keys) or "--as-completed" in how
    assert [path.name for path in ctl.directory.iterdir()] == ["out.jsonl"]


def test_gemini_batch_in_and_out(ctl: Ctl) -> None:
    lines: list[dict[str, Any]] = [
        {"key": "request-1", "request": {"contents": [{"parts": [{"text": "Describe it"}], "role": "user"}]}},
        {"key": "request-2", "request": {"contents": [{"parts": [{"text": "[[stand-in:400]] x"}]}]}},
    ]
    (ctl.directory / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flow = ctl.json("submit", "-f", "in.jsonl")["flow"]
    first, second = ctl.lines("results", f"f{flow}", "--follow", "--format", "gemini-batch")
    assert first["key"] == "request-1"
    candidate = first["response"]["candidates"][0]
    assert candidate["content"]["role"] == "model"
    assert candidate["content"]["parts"][0]["text"].startswith("[stand-in]")
    assert (second["key"], second["error"]["code"]) == ("request-2", 3)
    lines[1]["request"]["generation_config"] = {"candidateCount": 2}
    (ctl.directory / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "in.jsonl, line 2: more than one answer" in ctl("submit", "-f", "in.jsonl", status=4).stderr
    echo = ctl.json("submit", "echo")["flow"]
    assert "of type echo" in ctl("results", f"f{echo}", "--follow", "--format", "gemini-batch", status=2).stderr


def test_a_file_of_what_has_ended_says_what_is_missing(daemon: Daemon, ctl: Ctl) -> None:
    ask = daemon.client()
    flow = f"f{ask.submit({'type': 'echo', 'id': 1}, {'type': 'sleep', 'data': {'seconds': 60}})['flow']}"
    ask.wait(f"{flow}/1")
    said = ctl("results", flow, "-o", "out.jsonl").stderr
    assert f"{flow} has not ended: 1 of 2 are there" in said
    assert len(written(ctl.directory / "out.jsonl")) == 1
    for wrong in (("42", "--follow"), (flow, flow, "--follow"), (flow, "--as-completed")):
        ctl("results", *wrong, status=2)
    ask("cancel", refs=[flow])
