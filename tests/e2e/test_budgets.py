"""Money and tokens, as a person sees them: a real daemon, the stand-in for Gemini, a real gemflowctl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from helpers.ctl import Ctl
from helpers.daemon import Daemon, gemflowd_says, running
from helpers.raw import Refusal

PRICES = """
currency = "USD"
date = 2026-03-01
source = "made up for this test"
[models."gemini-2.5-*"]
input = 0.30
output = 2.50
"""
#: Billionths for a token.
INPUT, OUTPUT = 300, 2500
COUNT = 12


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(PRICES)
    return path


@pytest.fixture
def daemon(prices: Path) -> Iterator[Daemon]:
    with running("--offline", prices=str(prices), workers=1) as daemon:
        yield daemon


@pytest.fixture
def ctl(daemon: Daemon, tmp_path: Path) -> Ctl:
    return Ctl(daemon.endpoint, tmp_path)


def prompts(ctl: Ctl, word: str, count: int = COUNT) -> str:
    """A file of prompts that all cost the same."""
    lines = [{"type": "gemini", "data": {"prompt": f"{word} {index:02}: why is it so?"}} for index in range(count)]
    path = ctl.directory / f"{word}.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path.name


def said_by_the_standin(lines: list[dict[str, Any]]) -> tuple[int, int]:
    """Tokens and billionths of the answers, from the usage that each of them says itself."""
    usages = [line["result"]["usage"] for line in lines]
    tokens = sum(usage["total_tokens"] for usage in usages)
    return tokens, sum(usage["prompt_tokens"] * INPUT + usage["output_tokens"] * OUTPUT for usage in usages)


def nano(amount: float) -> int:
    return int(Decimal(str(amount)) * 10**9)


def recorded(daemon: Daemon, by: str = "model") -> tuple[int, int]:
    lines = daemon.client()("usage", by=by)["usage"]
    return sum(line["total_tokens"] for line in lines), sum(nano(line["cost"]) for line in lines)


def test_half_the_cost_holds_at_half_and_raising_it_finishes(daemon: Daemon, ctl: Ctl) -> None:
    subscriber = daemon.subscriber("budget")
    ctl("submit", "-f", prompts(ctl, "first"), "--wait")
    tokens, whole = said_by_the_standin(ctl.lines("results", "f1"))
    half = str(Decimal(whole) / 2 / 10**9)
    (line,) = ctl.lines("usage")
    assert (line["total_tokens"], nano(line["cost"])) == (tokens, whole)

    ctl("submit", "-f", prompts(ctl, "again"), "--budget", half)
    _, message = subscriber.message()
    (event,) = message["events"]
    assert (event["what"], event["of"], event["state"]) == ("held", "f2", "held")
    flow = ctl.json("status", "f2")
    assert flow["tasks"]["succeeded"] == COUNT // 2
    assert flow["budget"]["state"] == "held"
    assert nano(flow["budget"]["spent"]["money"]) == whole // 2
    last = COUNT * 2
    assert daemon.client()("explain", ref=last)["reasons"][0]["code"] == "budget"
    assert "f2" in ctl("status").stdout.split("held budgets")[1]

    daemon.kill()
    daemon.restart()
    assert daemon.client()("status", refs=["f2"])["items"][0]["tasks"]["succeeded"] == COUNT // 2
    assert [line["of"] for line in ctl.lines("budget", "list")] == ["f2"]
    raised = ctl.json("budget", "raise", "f2", f"+{half}")
    assert (nano(raised["money"]), raised["state"]) == (whole, "open")
    ctl("wait", "f2")
    results = daemon.client()("results", refs=["f1", "f2"])["results"]
    assert all(line["ok"] for line in results)
    for by in ("model", "flow", "day"):
        assert recorded(daemon, by) == said_by_the_standin(results)
    assert sum(nano(line["usage"]["cost"]) for line in results) == 2 * whole
    shown = daemon.client()("show", ref=last)
    assert nano(shown["attempts_log"][0]["usage"]["cost"]) == nano(shown["result"]["usage"]["cost"]) > 0

    daemon.client()("delete", refs=["f1", "f2"])
    assert recorded(daemon)[1] == 2 * whole, "it outlives its flows"


def test_what_is_refused(daemon: Daemon, ctl: Ctl, prices: Path) -> None:
    client = daemon.client()
    priceless = {"type": "gemini", "data": {"prompt": "hi", "model": "other"}, "queue": "slow"}

    def refusal(op: str, **body: Any) -> tuple[str, str | None]:
        with pytest.raises(Refusal) as caught:
            client(op, **body)
        return caught.value.code, caught.value.path

    with pytest.raises(Refusal) as caught:
        client.submit(priceless, budget={"money": 1})
    assert (caught.value.code, caught.value.path) == ("no_price", "tasks[0].data.model")
    for budget, path in (({}, "money"), ({"money": -1}, "money"), ({"tokens": 1, "action": "sulk"}, "action")):
        with pytest.raises(Refusal) as caught:
            client.submit({**priceless, "budget": budget})
        assert caught.value.path == f"tasks[0].budget.{path}"
    with pytest.raises(Refusal, match="give the budget to its flow") as caught:
        client.submit({"type": "agent", "data": {"goal": "g"}, "budget": {"tokens": 1}})
    assert caught.value.path == "tasks[0].budget"
    ctl("budget", "set", "queue", "slow", "--tokens", "0")
    client.submit(priceless)
    assert refusal("budget_set", of="f1", money=1) == ("no_price", "money")
    assert refusal("budget_raise", of="f1", money=1) == ("not_found", "of")
    assert refusal("budget_set", of="f9", money=1) == ("not_found", "of")
    assert refusal("budget_set", of="week", money=1) == ("invalid_value", "of")
    assert refusal("usage", by="moon") == ("invalid_value", "by")
    prices.write_text("currency = 1")
    assert refusal("reload") == ("invalid_config", None)
    prices.write_text(PRICES + "[models.other]\ninput = 1\noutput = 1\n")
    client("reload")
    assert "action warn" in ctl("budget", "set", "flow", "f1", "1", "--action", "warn").stdout
    ctl("budget", "remove", "queue", "slow")
    client("wait", refs=["f1"])
    assert [line["model"] for line in client("usage")["usage"]] == ["other"]


def test_a_broken_table_of_prices_is_told(tmp_path: Path) -> None:
    table, settings = tmp_path / "prices.toml", tmp_path / "gemflowd.toml"
    table.write_text('source = "x"\ncolour = 1\n')
    settings.write_text(f"prices = {json.dumps(str(table))}\n")
    said = gemflowd_says("check-config", "--config", str(settings), env={"CONFIGURATION_DIRECTORY": str(tmp_path)})
    assert said.returncode == 78
    assert "colour" in said.stderr
    assert "date must" in said.stderr
