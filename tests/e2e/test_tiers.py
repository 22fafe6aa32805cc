"""Cheaper tiers with a real daemon, client and SDK: flex and the way back, batches through failures and kills; what they save."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.ctl import Ctl
from helpers.daemon import Daemon, running
from helpers.raw import Raw, Refusal
from helpers.standin import StandInProcess, digest, stand_in
from helpers.waiting import until

PRICES = """
currency = "USD"
date = 2026-03-01
source = "made up"
[tiers]
flex = 0.5
batch = 0.5
[models."*"]
input = 1000
output = 1000
"""


BATCHES: dict[str, Any] = {"batch_wait": 0.5, "batch_poll": 0.2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandInProcess]:
    with stand_in(tmp_path_factory.mktemp("stand-in"), "--batch-seconds", "0.3") as model:
        yield model


@pytest.fixture(scope="module")
def daemon(model: StandInProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    prices = tmp_path_factory.mktemp("prices") / "prices.toml"
    prices.write_text(PRICES)
    with running(
        env=model.env, **model.settings, workers=1, backoff=0.01, tier_margin=1.0, **BATCHES, prices=str(prices)
    ) as daemon:
        warm_up(daemon.client())
        yield daemon


def ask(prompt: str, name: str, **data: Any) -> dict[str, Any]:
    return {"type": "gemini", "data": {"prompt": prompt, "model": name, **data}}


def warm_up(client: Raw) -> None:
    """The first call of a worker imports the SDK, for which a deadline of seconds has no room on a busy machine."""
    client.run(ask("Are you there?", "warm"))


def outcomes(client: Raw, number: int) -> list[str]:
    return [attempt["outcome"] for attempt in client.show(number)["attempts_log"]]


def tiers(model: StandInProcess, name: str) -> list[tuple[str, str]]:
    """Of each question to a model: outcome, tier."""
    return [(line["outcome"], line["tier"]) for line in model.lines() if line["model"] == name and line["prompt"]]


def test_flex_falls_back_at_its_deadline(client: Raw, model: StandInProcess) -> None:
    (line,) = client.run(ask("[[stand-in:503 tier=flex]] Why?", "busy", tier="flex", deadline=3.5) | {"retries": 0})
    assert line["ok"], line
    assert line["result"]["usage"]["service_tier"] == "standard"
    asked = tiers(model, "busy")
    assert len(asked) >= 2
    assert asked == [("refused", "flex")] * (len(asked) - 1) + [("answered", "standard")]
    *waits, last = outcomes(client, line["number"])
    assert set(waits) <= {"parked", "again"}, "no room costs no try"
    assert last == "done"


def test_flex_without_a_deadline_has_its_tries(client: Raw, model: StandInProcess) -> None:
    (line,) = client.run(ask("[[stand-in:503 tier=flex]] Why?", "full", tier="flex") | {"retries": 1})
    assert outcomes(client, line["number"]) == ["error", "again", "done"]
    assert tiers(model, "full") == [("refused", "flex"), ("refused", "flex"), ("answered", "standard")]


def test_auto_and_what_a_cheaper_tier_saves(daemon: Daemon, client: Raw, tmp_path: Path) -> None:
    ctl = Ctl(daemon.endpoint, tmp_path)
    (line,) = client.run(ask("Why?", "auto-model", tier="auto", deadline=3600))
    assert client.show(line["number"])["data"]["tier"] == "flex"
    usage = line["result"]["usage"]
    assert usage["service_tier"] == "flex"
    (urgent,) = client.run(ask("Why?", "auto-model", tier="auto") | {"priority": 8})
    assert urgent["result"]["usage"]["service_tier"] == "standard"
    by_model = {row["model"]: row for row in client("usage")["usage"]}["auto-model"]
    assert by_model["saved"] == pytest.approx(usage["total_tokens"] / 1000 / 2) == pytest.approx(usage["cost"])
    by_tier = {row["tier"]: row for row in client("usage", by="tier")["usage"]}
    assert by_tier["flex"]["saved"] >= by_model["saved"] > by_tier["standard"]["saved"] == 0
    table = ctl("usage", "--by", "tier").stdout
    assert "SAVED" in table
    assert "flex" in table


def test_the_options(daemon: Daemon, client: Raw, tmp_path: Path) -> None:
    ctl = Ctl(daemon.endpoint, tmp_path)
    ctl("prompt", "Why?", "--model", "o", "--tier", "flex", "--deadline", "1h", "--wait")
    (tmp_path / "t.jsonl").write_text(json.dumps({"task": "Why?"}) + "\n")
    reply = json.loads(ctl("submit", "-f", "t.jsonl", "--tier", "auto", "--deadline", "2h", "--json").stdout)
    assert client.show(reply["first"])["data"]["tier"] == "flex"
    assert "deadline" in ctl("prompt", "x", "--deadline", "1h", status=4).stderr
    terms = (
        "--id",
        "p",
        "--priority",
        "7",
        "--retries",
        "1",
        "--timeout",
        "1m",
        "--name",
        "asks",
        "--budget-tokens",
        "99999",
    )
    reply = ctl.json("prompt", "x", *terms, "--after", str(reply["first"]))
    shown = client.show(reply["first"])
    assert (shown["id"], shown["priority"], shown["retries"], shown["timeout"]) == ("p", 7, 1, 60.0)
    assert "--each-line" in ctl("prompt", "x", "--each-line", "--key", "k", status=2).stderr
    ctl("schedule", "add", "s", "@yearly", "gemini", "--set", "prompt=x", "--tier", "flex", "--budget", "1")
    task = client("schedule_show", name="s")["task"]
    assert (task["data"]["tier"], task["budget"]) == ("flex", {"money": 1.0})
    assert "--tier" in ctl("schedule", "add", "t", "@yearly", "echo", "--tier", "flex", status=2).stderr
    assert "--deadline" in ctl("prompt", "x", "--tier", "flex", "--deadline", "soon", status=2).stderr
    with pytest.raises(Refusal, match="not_supported"):
        client("schedule_add", name="t", cron="0 0 * * *", task=ask("x", "m", tier="flex", deadline=60))


def created(model: StandInProcess, name: str) -> int:
    """How many batches of a model there were."""
    return sum(line["model"] == name and line["outcome"] == "accepted" for line in model.lines())


def test_a_batch_whose_failures_come_back_alone(client: Raw, model: StandInProcess) -> None:
    good = [ask(f"Question number {n}?", "batch-a", tier="batch") for n in range(8)]
    bad = ask("[[stand-in:503 times=1]] A hard question?", "batch-a", tier="batch")
    refused = ask("[[stand-in:400]] A bad question?", "batch-a", tier="batch")
    lines = client.run(*good, bad, refused)
    assert [line["ok"] for line in lines] == [True] * 9 + [False]
    assert lines[-1]["error"]["code"] == "bad_request"
    assert created(model, "batch-a") == 2, "the rest did not wait for it, nor was it asked again"
    answered = [line for line in model.lines() if line["model"] == "batch-a" and line["outcome"] == "answered"]
    assert {line["tier"] for line in answered} == {"batch"}
    assert len(answered) == len({line["prompt"] for line in answered}) == 9
    assert outcomes(client, lines[0]["number"]) == ["parked", "done"]
    assert outcomes(client, lines[8]["number"]) == ["parked", "error", "again", "parked", "done"]
    usage = lines[0]["result"]["usage"]
    assert usage["service_tier"] == "batch"
    row = {row["model"]: row for row in client("usage")["usage"]}["batch-a"]
    assert (row["attempts"], row["unpriced"]) == (9, 0)
    assert row["saved"] == pytest.approx(row["cost"])


def test_a_batch_outlives_the_daemon_and_is_sent_once(client: Raw, daemon: Daemon, model: StandInProcess) -> None:
    parent = {"id": "p", "type": "echo", "data": {"word": "river"}}
    rendered = ask("What is a {{ deps.p.word }}?", "batch-k", tier="batch") | {"deps": ["p"]}
    events = daemon.subscriber("task", "progress")
    flow = client.submit(parent, *[ask(f"Number {n}?", "batch-k", tier="batch") for n in range(20)], rendered)["flow"]
    # Stopped in turns, so that Google has it, and the daemon is killed before anybody could say so.
    os.kill(model.pid, signal.SIGSTOP)
    try:
        carrier = events.until("task.running", type="gemini.batch")[-1]["task"]
        events.until(f"progress.{carrier}", message="is being sent")
        os.kill(daemon.pid, signal.SIGSTOP)
    finally:
        os.kill(model.pid, signal.SIGCONT)
    until(lambda: created(model, "batch-k") > 0, model.log.parent)
    daemon.kill()
    daemon.restart()
    client.wait(f"f{flow}")
    assert all(line["ok"] for line in client.results(f"f{flow}"))
    answered = [line for line in model.lines() if line["model"] == "batch-k" and line["outcome"] == "answered"]
    assert len(answered) == len({line["prompt"] for line in answered}) == 21
    assert digest("What is a river?") in {line["prompt"] for line in answered}, "the templates were rendered before"
    assert created(model, "batch-k") == 1
    assert any(line["outcome"] == "listed" for line in model.lines())


def test_a_batch_that_fails_as_a_whole(client: Raw, model: StandInProcess) -> None:
    lines = client.run(
        ask("[[stand-in:batch_failed times=1]] One?", "batch-f", tier="batch"), ask("Two?", "batch-f", tier="batch")
    )
    assert all(line["ok"] for line in lines)
    (expired,) = client.run(ask("[[stand-in:batch_expired times=1]] Three?", "batch-x", tier="batch"))
    assert expired["result"]["usage"]["service_tier"] == "standard"
    assert outcomes(client, expired["number"]) == ["parked", "again", "done"]


def test_at_its_deadline_a_batch_is_cancelled(tmp_path: Path) -> None:
    with (
        stand_in(tmp_path, "--batch-seconds", "3600") as slow,
        running(env=slow.env, **slow.settings, workers=1, tier_margin=1.0, **BATCHES) as daemon,
    ):
        client = daemon.client()
        warm_up(client)
        events = daemon.subscriber("task")
        flow = client.submit(*[ask(f"{n}?", "late", tier="batch", deadline=5.0) for n in range(2)])["flow"]
        events.until("task.running", type="gemini.batch")
        events.until("task.scheduled", type="gemini.batch")  # its name is stored
        daemon.kill()
        daemon.restart()
        client.wait(f"f{flow}")
        first, second = client.results(f"f{flow}")
        assert [first["ok"], second["ok"]] == [True, True]
        assert first["result"]["usage"]["service_tier"] == "standard"
        assert outcomes(client, first["number"]) == ["parked", "again", "done"]
        assert created(slow, "late") == 1
        assert any(line["outcome"] == "cancelled" for line in slow.lines())
        assert tiers(slow, "late") == [("answered", "standard")] * 2
        # What is cancelled by a person gives its room in the budget back; with nobody left the batch ends, too.
        flow = client.submit(ask("x?", "gone", tier="batch"), budget={"tokens": 10_000})["flow"]
        events = daemon.subscriber("task")
        until(lambda: created(slow, "gone") > 0, slow.log.parent)
        (budget,) = client("budget_list")["budgets"]
        assert budget["reserved"]["tokens"] > 0, "it is in flight"
        client("cancel", refs=[f"f{flow}"])
        events.until("task.succeeded", type="gemini.batch")
        (budget,) = client("budget_list")["budgets"]
        assert budget["reserved"]["tokens"] == 0
        assert budget["assumed"]["tokens"] > 0, "it may have to be paid for"


def test_a_batch_that_can_not_be_looked_at_keeps_no_question_beyond_its_deadline(tmp_path: Path) -> None:
    with (
        stand_in(tmp_path, "--batch-seconds", "3600") as gone,
        running(env=gone.env, **gone.settings, workers=1, tier_margin=1.0, **BATCHES) as daemon,
    ):
        client = daemon.client()
        warm_up(client)
        events = daemon.subscriber("task")
        task = client.submit(ask("x?", "gone", tier="batch", deadline=4.0) | {"retries": 0}, budget={"tokens": 10_000})
        until(lambda: created(gone, "gone") > 0, gone.log.parent)
        os.kill(gone.pid, signal.SIGKILL)
        events.until("task.failed", type="gemini")
        assert outcomes(client, task["first"]) == ["parked", "again", "error"], "the standard tier was tried in the end"
        assert client.show(task["first"])["attempts_log"][1]["error"]["code"] == "deadline"
        (budget,) = client("budget_list")["budgets"]
        assert budget["reserved"]["tokens"] == 0
        assert budget["assumed"]["tokens"] > 0, "Google may carry the batch on"


def test_a_budget_counts_what_is_in_a_batch_and_a_limit_does_not(client: Raw) -> None:
    client("limits", limit="gemini:batch-b", set={"requests": 1, "per": 3600})
    tasks = [ask(f"Budgeted {n}?", "batch-b", tier="batch") for n in range(4)]
    reply = client.submit(*tasks, budget={"tokens": 100_000})
    client.wait(f"f{reply['flow']}")
    used = sum(line["usage"]["total_tokens"] for line in client.results(f"f{reply['flow']}"))
    budget = next(it for it in client("budget_list")["budgets"] if it["of"] == f"f{reply['flow']}")
    assert (budget["spent"]["tokens"], budget["reserved"]["tokens"], budget["assumed"]["tokens"]) == (used, 0, 0)


def test_each_question_of_a_conversation_goes_into_a_batch(client: Raw, model: StandInProcess) -> None:
    task = ask("[[stand-in:call name=list_files]]", "talks", tier="batch", deadline=600, tools=["list_files"])
    first = client.submit(task)["first"]
    client.wait(first)
    result = client.results(first)[0]["result"]
    assert (result["hops"], len(result["calls"])) == (2, 1)
    assert tiers(model, "talks") == [("answered", "batch")] * 2


def test_an_answer_of_a_batch_is_cached(client: Raw, model: StandInProcess) -> None:
    question = ask("Known?", "batch-c", tier="batch", cache="on")
    (first,) = client.run(question)
    (second,) = client.run(question)
    assert "cached" not in first["result"]
    assert second["result"]["cached"] is True
    assert created(model, "batch-c") == 1
