"""The cache of model calls through a real daemon: shared calls, modes, waiting and its clock, what people see, bad requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.ctl import Ctl
from helpers.daemon import Daemon, running, with_handlers
from helpers.raw import Raw, Refusal
from helpers.standin import StandInProcess, digest, stand_in

Task = dict[str, Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandInProcess]:
    with stand_in(tmp_path_factory.mktemp("model"), "--latency", "0.05") as model:
        yield model


@pytest.fixture(scope="module")
def paying(model: StandInProcess) -> Iterator[Daemon]:
    settings = with_handlers("asking_tasks", workers=1, batch_size=30, backoff=0.01, grace=1.0)
    with running(env=model.env, **model.settings, **settings) as daemon:
        yield daemon


@pytest.fixture
def client(paying: Daemon) -> Iterator[Raw]:
    with Raw(paying.endpoint) as client:
        yield client


def ask(prompt: str, cache: str | None = "on", **fields: Any) -> Task:
    data = {"prompt": prompt, "model": "gemini-e"}
    return {"type": "gemini", "data": data if cache is None else {**data, "cache": cache}, **fields}


def test_identical_questions_are_one_call(client: Raw, model: StandInProcess) -> None:
    before = client("cache_stats")
    lines = client.run(*[ask("How long is the wall? It is 21,196 km long.", id=n) for n in range(25)])
    assert all(line["ok"] for line in lines)
    assert len({line["result"]["text"] for line in lines}) == 1
    assert model.answered()[digest("How long is the wall? It is 21,196 km long.")] == 1
    cached = [line for line in lines if line["result"].get("cached")]
    assert len(cached) == 24
    after = client("cache_stats")
    assert (after["misses"] - before["misses"], after["hits"] - before["hits"]) == (1, 24)
    usage = lines[0]["result"]["usage"]
    del usage["cost"]
    assert after["saved"]["output_tokens"] - before["saved"]["output_tokens"] == 24 * usage["output_tokens"]
    (attempt,) = client.show(cached[0]["number"])["attempts_log"]
    assert attempt["usage"] == {"cached": True, "saved_tokens": usage["total_tokens"], "saved": usage, "cost": 0.0}
    totals = client("stats")["cache"]
    assert totals == {name: after[name] for name in totals}


def test_temperature_zero_is_cached_by_itself(client: Raw, model: StandInProcess) -> None:
    for text, config, times in (("Plain.", {}, 2), ("Cold.", {"temperature": 0}, 1), ("Warm.", {"temperature": 1}, 2)):
        task = ask(text, None)
        task["data"]["config"] = config
        for _ in range(2):
            client.run(task)
        assert model.answered()[digest(text)] == times, text


def test_templates_are_part_of_the_question(client: Raw, model: StandInProcess) -> None:
    for _ in range(2):
        tasks = [{"id": "a", "type": "echo", "data": {"x": "sea"}}, ask("Tell of the {{ deps.a.x }}.", deps=["a"])]
        assert client.run(*tasks)[1]["ok"]
    assert model.answered()[digest("Tell of the sea.")] == 1


def test_write_and_refresh_ask_anew(client: Raw, model: StandInProcess) -> None:
    text = "Old or new?"
    for mode, times in (("read", 1), ("read", 2), ("on", 3), ("on", 3), ("refresh", 4), ("write", 5), ("read", 5)):
        client.run(ask(text, mode))
        assert model.answered()[digest(text)] == times, mode
    client.run(ask(text, "off"))
    assert model.answered()[digest(text)] == 6


def test_who_waits_is_not_late_for_it(client: Raw, model: StandInProcess) -> None:
    slow = "[[stand-in:slow seconds=30 times=1]] Slow."
    first = client.submit(ask(slow, timeout=1.0, retries=0))["first"]
    others = [client.submit(ask(slow, timeout=1.0, retries=0))["first"] for _ in range(2)]
    client.wait(first, *others)
    lines = client.results(first, *others)
    assert [line["ok"] for line in lines] == [False, True, True], lines
    assert lines[0]["error"]["code"] == "timeout"
    assert [line["attempts"] for line in lines[1:]] == [1, 1], "their own time began with their own call"
    assert model.answered()[digest(slow)] == 1


def test_a_cancelled_call_is_made_by_the_next(client: Raw, model: StandInProcess) -> None:
    slow = "[[stand-in:slow seconds=1.5]] Cancelled."
    first = client.submit(ask(slow))["first"]
    second = client.submit(ask(slow))["first"]
    client("cancel", refs=[first])
    client.wait(first, second)
    cancelled, made = client.results(first, second)
    assert (cancelled["state"], made["state"]) == ("cancelled", "succeeded")
    assert "cached" not in made["result"]


def test_answers_that_are_not_whole_are_not_kept(client: Raw, model: StandInProcess) -> None:
    for text, config in (("[[stand-in:safety]] Bad.", {}), ("One two three four five six.", {"maxOutputTokens": 3})):
        task = ask(text)
        task["data"]["config"] = config
        entries = client("cache_stats")["entries"]
        client.run(task)
        client.run(task)
        assert client("cache_stats")["entries"] == entries, text
    assert model.answered()[digest("One two three four five six.")] == 2


def test_an_answer_that_was_asked_for_again_is_kept_for_the_question(client: Raw, model: StandInProcess) -> None:
    task = ask("[[stand-in:bad_json times=1]] How many? There are 12 of them.")
    task["data"]["schema"] = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
    (first,), (second,) = client.run(task), client.run(task)
    assert first["attempts"] == 2, first
    paid, free = first["result"]["usage"].pop("cost"), second["result"]["usage"].pop("cost")
    assert (paid, free) == (None, 0.0), "nobody knows the price of that model, and a stored answer costs nothing"
    assert second["result"] == {**first["result"], "cached": True}


def test_what_attempts_ask_is_checked(client: Raw) -> None:
    for body, path in (
        ({}, "key"),
        ({"key": b"short", "model": "m", "mode": "on"}, "key"),
        ({"key": "x" * 32, "model": "m", "mode": "on"}, "key"),
        ({"key": b"k" * 32, "model": "m", "mode": "off"}, "mode"),
        ({"key": b"k" * 32, "model": 3, "mode": "on"}, "model"),
        ({"key": b"k" * 32, "model": "m", "mode": "on", "more": 1}, "more"),
    ):
        (line,) = client.run({"type": "ask-anything", "data": {"op": "cache_begin", "body": body}})
        assert line["result"]["path"] == path, (body, line)
    for op in ("cache_begin", "cache_leave"):
        with pytest.raises(Refusal) as refused:
            client(op)
        assert refused.value.code == "unknown_op", "clients make no calls"
    for body in ({"limit": 0}, {"limit": 1001}, {"limit": "x"}):
        with pytest.raises(Refusal) as refused:
            client("cache_list", **body)
        assert refused.value.path == "limit"
    with pytest.raises(Refusal) as refused:
        client.submit(ask("x", "maybe"))
    assert (refused.value.code, refused.value.path) == ("invalid_data", "tasks[0].data.cache")


def test_what_people_see(paying: Daemon, client: Raw, model: StandInProcess, tmp_path: Path) -> None:
    ctl = Ctl(paying.endpoint, tmp_path)
    ctl("cache", "clear")
    before = ctl.json("cache", "stats")
    ctl("prompt", "Seen by people.", "--cache", "on", "--wait")
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"id": "a", "task": "Seen by people."}\n{"id": "b", "type": "echo"}\n')
    ctl("submit", "-f", str(file), "--cache", "on", "--wait")
    assert ctl("submit", "echo", "--cache", "on", status=2).stderr
    ctl("submit", "gemini", "--set", "prompt=Seen by people.", "--cache", "read", "--wait")
    assert model.answered()[digest("Seen by people.")] == 1
    stats = ctl.json("cache", "stats")
    assert (stats["entries"], stats["hits"] - before["hits"], stats["misses"] - before["misses"]) == (1, 2, 1)
    assert "hit rate" in ctl("cache", "stats").stdout
    assert "from the cache" in ctl("stats").stdout
    (entry,) = ctl.lines("cache", "list")
    assert (entry["hits"], entry["model"]) == (2, "gemini-2.5-flash")
    assert entry["key"][:12] in ctl("cache", "list").stdout
    assert ctl("cache", "clear").stdout.startswith("1 answer forgotten")
    assert ctl("cache", "list").stderr.startswith("the cache is empty")
    assert ctl.json("cache", "clear") == {"entries": 0, "bytes": 0}
