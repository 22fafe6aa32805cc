"""Cheaper tiers with a real daemon, client and SDK: flex and the way back, batches through failures and kills; what they save."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.ctl import Ctl
from helpers.daemon import Daemon, running
from helpers.raw import Raw, Refusal
from helpers.standin import StandInProcess, stand_in

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


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandInProcess]:
    with stand_in(tmp_path_factory.mktemp("stand-in"), "--batch-seconds", "0.3") as model:
        yield model


@pytest.fixture(scope="module")
def daemon(model: StandInProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    prices = tmp_path_factory.mktemp("prices") / "prices.toml"
    prices.write_text(PRICES)
    with running(
        env=model.env, **model.settings, workers=1, backoff=0.01, tier_margin=1.0, prices=str(prices)
    ) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Raw]:
    with Raw(daemon.endpoint) as client:
        yield client


def ask(prompt: str, name: str, **data: Any) -> dict[str, Any]:
    return {"type": "gemini", "data": {"prompt": prompt, "model": name, **data}}


def outcomes(client: Raw, number: int) -> list[str]:
    return [attempt["outcome"] for attempt in client.show(number)["attempts_log"]]


def tiers(model: StandInProcess, name: str) -> list[tuple[str, str]]:
    """Of each question to a model: outcome, tier."""
    return [(line["outcome"], line["tier"]) for line in model.lines() if line["model"] == name and line["prompt"]]


def test_flex_falls_back_at_its_deadline(client: Raw, model: StandInProcess) -> None:
    (line,) = client.run(ask("[[stand-in:503 tier=flex]] Why?", "busy", tier="flex", deadline=3.0) | {"retries": 0})
    assert line["ok"], line
    assert line["result"]["usage"]["service_tier"] == "standard"
    asked = tiers(model, "busy")
    assert len(asked) >= 3
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
    assert "--deadline" in ctl("prompt", "x", "--tier", "flex", "--deadline", "soon", status=2).stderr
    with pytest.raises(Refusal, match="not_supported"):
        client("schedule_add", name="s", cron="0 0 * * *", task=ask("x", "m", tier="flex", deadline=60))
