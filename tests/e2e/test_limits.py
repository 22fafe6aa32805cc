"""The gemini handler and its limits through the real SDK, against the stand-in that `--offline` starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.ctl import Ctl
from helpers.daemon import Daemon, running, with_handlers
from helpers.raw import Raw


@pytest.fixture(scope="module")
def offline() -> Iterator[Daemon]:
    with running("--offline", **with_handlers("odd_tasks", workers=2, batch_size=10, backoff=0.01)) as daemon:
        yield daemon


@pytest.fixture
def client(offline: Daemon) -> Iterator[Raw]:
    with Raw(offline.endpoint) as client:
        yield client


def ask(prompt: str, model: str = "gemini-a", **fields: Any) -> dict[str, Any]:
    return {"type": "gemini", "data": {"prompt": prompt, "model": model}, **fields}


def outcomes(client: Raw, number: int) -> list[str]:
    return [attempt["outcome"] for attempt in client.show(number)["attempts_log"]]


def test_an_answer_and_what_it_cost(client: Raw) -> None:
    (line,) = client.run(ask("The river rose to 4.2 m."))
    assert line["result"]["stand_in"] is True
    assert line["result"]["text"].startswith("[stand-in]")
    (attempt,) = client.show(line["number"])["attempts_log"]
    assert attempt["usage"] == line["result"]["usage"]
    assert attempt["usage"]["total_tokens"] > 0


def test_the_short_form_uses_its_persona(client: Raw) -> None:
    agents = client("handlers")["agents"]
    name = agents[0]["name"]
    lines = {
        line["id"]: line
        for line in client.run(
            {"id": "first", "task": "Collect facts about rivers.", "agent": name},
            {"id": "second", "task": "Sum up: {{ deps.first.text }}", "deps": ["first"]},
        )
    }
    assert all(line["ok"] and line["type"] == "gemini" for line in lines.values())
    data = client.show(lines["first"]["number"])["data"]
    assert data["prompt"] == "Collect facts about rivers."
    assert data["system"]
    assert data["model"] == "gemini-2.5-flash"


def test_a_model_that_is_written_in_two_ways_has_one_limit(client: Raw) -> None:
    client("limits", limit="gemini:models/gemini-two", set={"rpm": 100})
    lines = client.run(ask("one", "gemini-two"), ask("two", "models/gemini-two"))
    assert [line["ok"] for line in lines] == [True] * 2
    assert client.show(lines[1]["number"])["data"]["model"] == "gemini-two"
    names = {one["limit"]: one["used"]["rpm"] for one in client("limits")["limits"] if "two" in one["limit"]}
    assert names == {"gemini:gemini-two": 2}


def test_a_limit_that_the_server_announces(client: Raw, offline: Daemon) -> None:
    client.run(ask("warm up"), ask("warm up", "gemini-b"))
    with_events = offline.subscriber("limit")
    begin = client("subscribe")["next"]
    first = client.submit(ask("[[stand-in:429 retry=1.5 times=1]] Rivers.", retries=0))["first"]
    limit = with_events.until("limit", bucket="gemini:gemini-a")[-1]
    until = limit["until"]
    assert 1.0 < until - limit["at"] <= 1.6
    assert client("status")["paused_limits"] == [{"bucket": "gemini:gemini-a", "until": until}]
    # Others of the model wait, those of another go on.
    same = client.submit(ask("Lakes."))["first"]
    (other,) = client.run(ask("Seas.", "gemini-b"))
    assert other["ok"]
    assert client("ping")["now"] < until
    assert client.show(same)["state"] == "ready"
    client.wait(first, same)
    assert outcomes(client, first) == ["rate_limited", "done"]
    # It cost no try: `retries` was 0.
    line = client.results(first)[0]
    assert (line["state"], line["attempts"]) == ("succeeded", 2)
    log = client.show(first)["attempts_log"]
    assert log[0]["error"]["code"] == "rate_limited"
    assert log[1]["started"] >= until
    assert client.show(same)["started"] >= until
    assert client("status")["paused_limits"] == []
    events = client("events", **{"from": begin, "topics": ["limit"]})["events"]
    assert [event["bucket"] for event in events] == ["gemini:gemini-a"]


def test_a_limit_outlives_the_daemon() -> None:
    tasks = [
        {"type": "limited", "data": {"name": "x", "times": 1, "retry_after": 1000.0}},
        {"type": "limited", "data": {"name": "x", "times": 0, "retry_after": 0}},
    ]
    with running(**with_handlers("odd_tasks", workers=1)) as daemon:
        limits = daemon.subscriber("limit")
        first = daemon.client().submit(tasks[0])["first"]
        until = limits.until("limit")[-1]["until"]
        daemon.kill()
        daemon.restart()
        client = daemon.client()
        second = client.submit(tasks[1])["first"]
        # It sleeps by the steady clock, which is set by the wall clock once more when a daemon starts.
        assert client("status")["paused_limits"] == [{"bucket": "limited:x", "until": pytest.approx(until, abs=0.01)}]
        for number in (first, second):
            assert client.show(number)["state"] == "ready"
            reason = client("explain", ref=number)["reasons"][0]
            assert (reason["code"], reason["until"]) == ("limit_asleep", pytest.approx(until, abs=0.01))
        client("limits", limit="limited:x", reset=True)
        client.wait(first, second)
        assert outcomes(client, first) == ["rate_limited", "done"]


def test_failures_of_the_other_side(client: Raw) -> None:
    lines = {
        line["id"]: line
        for line in client.run(
            ask("[[stand-in:503 times=2]] a", "gemini-c", id="overloaded"),
            ask("[[stand-in:400]] b", "gemini-c", id="bad"),
            ask("[[stand-in:disconnect times=1]] c", "gemini-c", id="dropped"),
            ask("[[stand-in:safety]] d", "gemini-c", id="blocked"),
            ask("[[stand-in:slow seconds=30]] e", "gemini-c", id="slow", timeout=0.3, retries=0),
        )
    }
    assert outcomes(client, lines["overloaded"]["number"]) == ["error", "error", "done"]
    assert outcomes(client, lines["dropped"]["number"]) == ["error", "done"]
    assert (lines["bad"]["attempts"], lines["bad"]["error"]["code"]) == (1, "bad_request")
    assert lines["blocked"]["error"]["code"].startswith("blocked")
    assert (lines["slow"]["state"], lines["slow"]["error"]["code"]) == ("failed", "timeout")


def test_without_a_key() -> None:
    with running(workers=1) as daemon:
        (line,) = daemon.client().run(ask("Rivers."))
        assert (line["state"], line["attempts"]) == ("failed", 1)
        assert line["error"]["code"] == "no_api_key"
        assert "GEMINI_API_KEY" in line["error"]["message"]


def test_a_key_is_never_shown() -> None:
    key = "AIzaSyTheKeyThatNobodyMaySee0123456789"
    with running(env={"GEMINI_API_KEY": key}, workers=1, gemini_endpoint="http://127.0.0.1:9") as daemon:
        client = daemon.client()
        (line, command) = client.run(
            ask("Rivers.", retries=0), {"type": "command", "data": {"args": ["env"]}, "retries": 0}
        )
        assert line["error"]["code"] == "connection_failed"
        assert key not in repr((line, command, client.show(line["number"]), client("config"), client("status")))
        assert key not in daemon.log_text()


def test_figures_that_a_person_gives(client: Raw, offline: Daemon, tmp_path: Path) -> None:
    ctl = Ctl(offline.endpoint, tmp_path)
    name = "gemini:gemini-d"
    ctl("limits", "set", name, "rpm=2", "reserve=0")
    first = client.submit(*[ask(f"Rivers {n}.", "gemini-d") for n in range(3)])["first"]
    client.wait(first, first + 1)
    waits = client("explain", ref=first + 2)
    assert (waits["runnable"], waits["reasons"][0]["code"], waits["reasons"][0]["figure"]) == (
        False,
        "limit_reached",
        "rpm",
    )
    assert f"waiting for RPM of {name} until" in ctl("explain", str(first + 2)).stdout
    assert f"{name}  0          2/2  open" in ctl("limits", name).stdout
    ctl("limits", "set", name, "rpm=none")
    client.wait(first + 2)
    (limit,) = ctl.lines("limits", "reset", name)
    assert {figure["origin"] for figure in limit["figures"].values()} == {"default"}
    assert limit["used"]["rpm"] == 3
    for wrong, what in (
        ("rpm=0", "set.rpm"),
        ("rpd=x", "set.rpd"),
        ("speed=1", "set.speed"),
        ("zone=Mars/Base", "set.zone"),
    ):
        assert what in ctl("limits", "set", name, wrong, status=4).stderr
    assert "no limit" in ctl("limits", "nobody", status=4).stderr
    completion = {"_GEMFLOWCTL_COMPLETE": "bash_complete", "COMP_WORDS": "gemflowctl limits set gem", "COMP_CWORD": "3"}
    assert name in Ctl(offline.endpoint, tmp_path, **completion)().stdout


def test_a_quota_is_kept_over_a_kill() -> None:
    with running(**with_handlers("odd_tasks", workers=1)) as daemon:
        client = daemon.client()
        client("limits", limit="limited:q", set={"requests": 2, "per": 3.0})
        tasks = [{"type": "limited", "data": {"name": "q", "times": 0, "retry_after": 0}} for _ in range(4)]
        first = client.submit(*tasks)["first"]
        client.wait(first, first + 1)
        daemon.kill()
        daemon.restart()
        client = daemon.client()
        client.wait(first, first + 3)
        started = [client.show(number)["started"] for number in range(first, first + 4)]
        assert started[2] - started[0] >= 3.0
        assert started[3] - started[1] >= 3.0
