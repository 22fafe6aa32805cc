"""Calls that take more than one attempt or come in pieces, with a real daemon, client and SDK, and what a crash leaves of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.ctl import Ctl
from helpers.daemon import Daemon, running
from helpers.raw import Raw

from gemflowd.standin.launch import launch

SCHEMA = {"type": "object", "properties": {"people": {"type": "integer"}}, "required": ["people"]}
TEXT = "The river rose to 4.2 m. About 1,200 people left their homes."
LONG = " ".join(f"The river number {number} rose to {number}.5 m in the spring of that year." for number in range(12))


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A stand-in that outlives daemons, and its log."""
    log = tmp_path_factory.mktemp("stand-in") / "requests.jsonl"
    process, url = launch("--log-file", str(log))
    yield url, log
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def daemon(requests: tuple[str, Path]) -> Iterator[Daemon]:
    env = {"GEMINI_API_KEY": "none", "NO_PROXY": "127.0.0.1"}
    with running(env=env, workers=1, batch_size=10, backoff=0.01, gemini_endpoint=requests[0]) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Raw]:
    with Raw(daemon.endpoint) as client:
        yield client


def ask(prompt: str, model: str, **data: Any) -> dict[str, Any]:
    return {"type": "gemini", "data": {"prompt": prompt, "model": model, **data}, "retries": 1}


def asked(log: Path, model: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line["model"] == model]


def attempts(client: Raw, number: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.show(number)["attempts_log"]
    return found


def test_an_answer_that_did_not_fit_is_asked_for_again_after_a_crash_too(
    client: Raw, daemon: Daemon, requests: tuple[str, Path]
) -> None:
    prompt = f"[[stand-in:mismatch times=1]] [[stand-in:slow seconds=1 times=2]] Summarize.\n\n{TEXT}"
    events = daemon.subscriber("task.running")
    number = client.submit(ask(prompt, "crash", schema=SCHEMA))["first"]
    events.until("task.running", task=number)
    events.until("task.running", task=number)
    daemon.kill()
    daemon.restart()
    client.wait(str(number))
    (line,) = client.results(str(number))
    assert line["result"]["parsed"] == {"people": 1200}
    first, second, third = attempts(client, number)
    assert [first["outcome"], second["outcome"], third["outcome"]] == ["again", "lost", "done"]
    assert first["error"]["code"] == "schema_mismatch"
    assert first["usage"]["total_tokens"] > 0
    assert third["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"], "it was told what it had answered"


def test_an_answer_that_never_fits(client: Raw) -> None:
    (line,) = client.run(ask(f"[[stand-in:bad_json]] {TEXT}", "unfit", schema=SCHEMA))
    assert line["state"] == "failed"
    assert line["error"]["code"] == "bad_json"
    log = attempts(client, line["number"])
    assert [attempt["outcome"] for attempt in log] == ["again", "again", "permanent"]
    assert all(attempt["usage"]["total_tokens"] > 0 for attempt in log)


def test_another_model_when_the_tries_are_used_up(client: Raw, requests: tuple[str, Path]) -> None:
    data = ask(f"[[stand-in:503 model=over]] [[stand-in:503 model=over-2]] {TEXT}", "over", fallback=["over-2", "free"])
    (line,) = client.run(data)
    assert line["result"]["model"] == "free-stand-in"
    outcomes = [attempt["outcome"] for attempt in attempts(client, line["number"])]
    assert outcomes == ["error", "again", "error", "again", "done"]
    assert [len(asked(requests[1], model)) for model in ("over", "over-2", "free")] == [2, 2, 1]


def test_another_model_when_the_day_is_used_up(client: Raw) -> None:
    prompt = f"[[stand-in:429 retry=3600 daily=1 model=day]] {TEXT}"
    (line,) = client.run(ask(prompt, "day", fallback=["night"]))
    assert line["result"]["model"] == "night-stand-in"
    assert [limit["bucket"] for limit in client("status")["paused_limits"]] == ["gemini:day"]
    other = client.submit(ask(TEXT, "day"))["first"]
    (after,) = client.run(ask(TEXT, "night"))
    assert after["ok"]
    assert client.show(other)["state"] == "ready", "who names no other model waits"
    (late,) = client.run(ask(TEXT, "day", fallback=["night"]))
    assert late["result"]["model"] == "night-stand-in", "who comes later does not ask first"
    log = attempts(client, late["number"])
    assert [(attempt["outcome"], attempt["worker"]) for attempt in log[:1]] == [("again", "")]
    client("cancel", refs=[str(other)])


def test_who_comes_late_reads_an_answer_from_its_beginning(client: Raw, daemon: Daemon, tmp_path: Path) -> None:
    number = client.submit(ask(f"[[stand-in:pieces seconds=0.3]] {LONG}", "late", stream=True))["first"]
    client.log_line(str(number))
    ctl = Ctl(daemon.endpoint, tmp_path)
    shown = ctl("logs", str(number), "-f").stdout
    (line,) = client.results(str(number))
    assert shown == line["result"]["text"] + "\n"
    assert len(client("logs", ref=str(number))["lines"]) > 3


def test_what_was_said_before_a_crash_stays_and_is_marked(client: Raw, daemon: Daemon) -> None:
    number = client.submit(ask(f"[[stand-in:pieces seconds=0.4 times=1]] {LONG}", "partial", stream=True))["first"]
    begun = client.log_line(str(number))["text"]
    daemon.kill()
    daemon.restart()
    client.wait(str(number))
    (line,) = client.results(str(number))
    lines = client("logs", ref=str(number))["lines"]
    texts = {
        attempt: "".join(line["text"] for line in lines if (line["attempt"], line["stream"]) == (attempt, "text"))
        for attempt in (1, 2)
    }
    assert texts[1].startswith(begun)
    assert line["result"]["text"].startswith(texts[1])
    assert texts[2] == line["result"]["text"]
    assert [line["text"] for line in lines if line["stream"] == "log"] == ["[attempt 1 broke off: lost]"]


def test_a_prompt_that_is_waited_for_streams(daemon: Daemon, tmp_path: Path) -> None:
    ctl = Ctl(daemon.endpoint, tmp_path)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    plain = ctl("prompt", LONG, "--wait", "--model", "p").stdout
    assert ctl("prompt", LONG, "--wait", "--model", "p", "--stream").stdout == plain
    more = ("--file", str(tmp_path / "a.png"), "--temperature", "0.5", "--config", "top_k=3", "--tier", "flex")
    assert ctl("prompt", LONG, "--wait", "--model", "p", *more).stdout == plain
    failed = ctl("prompt", f"[[stand-in:safety]] {LONG}", "--wait", "--model", "p", "--stream", status=1)
    assert "SAFETY" in failed.stderr
    assert failed.stdout == ""


def test_a_slip_of_the_hand_is_refused_at_submission(daemon: Daemon, tmp_path: Path) -> None:
    ctl = Ctl(daemon.endpoint, tmp_path)
    (tmp_path / "schema.json").write_text('{"type": "strng"}')
    (tmp_path / "what.ever").write_bytes(b"\0\xff")
    assert "temprature" in ctl("prompt", "x", "--config", "temprature=1", status=4).stderr
    assert "maximum of 1" in ctl("prompt", "x", "--top-p", "2", status=4).stderr
    assert "schema.type" in ctl("prompt", "x", "--schema", "schema.json", status=4).stderr
    assert "--file" in ctl("prompt", "x", "--file", "what.ever", status=2).stderr
    assert "--config" in ctl("prompt", "x", "--config", "nonsense", status=2).stderr


def test_embeddings_and_counts_are_tasks(client: Raw) -> None:
    embedded, counted = client.run(
        {"type": "gemini.embed", "data": {"texts": ["a", "b"], "model": "embedding", "dimensions": 8}},
        {"type": "gemini.count", "data": {"prompt": TEXT}},
    )
    assert [len(vector) for vector in embedded["result"]["embeddings"]] == [8, 8]
    assert counted["result"]["total_tokens"] == -(-len(TEXT) // 4)
    assert counted["result"]["model"] == "gemini-2.5-flash"
