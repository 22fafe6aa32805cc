"""What a handler's context offers, through a real daemon: progress, limits, models, a worker of its own; and loops that stand still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import Daemon, running, with_handlers
from helpers.raw import PATIENCE, Raw, Refusal, Subscriber

Task = dict[str, Any]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    settings = with_handlers("context_tasks", workers=2, batch_size=10, backoff=0.01, grace=1.0)
    with running(**settings) as daemon:
        yield daemon


def task(kind: str, /, **data: Any) -> Task:
    return {"type": kind, "data": data, "retries": 0}


def start(client: Raw, *tasks: Task) -> list[int]:
    submitted = client.submit(*tasks)
    return [submitted["first"] + index for index in range(submitted["count"])]


def result(client: Raw, *tasks: Task) -> Any:
    line = client.run(*tasks)[-1]
    assert line["ok"], line
    return line["result"]


@pytest.mark.parametrize("kind", ["steps", "asteps"])
def test_progress_is_seen_while_it_runs_and_the_last_word_is_told(
    daemon: Daemon, client: Raw, tmp_path: Path, kind: str
) -> None:
    until = tmp_path / "until"
    listener = daemon.subscriber("progress.", "task.succeeded")
    (number,) = start(client, task(kind, count=20_000, until=str(until)))
    seen = listener.until(f"progress.{number}", done=20_000)
    assert seen[-1]["total"] == 20_000
    assert seen[-1]["message"] == "step 20000"
    assert seen[-1]["attempt"] == 1
    assert len(seen) < 200, "not each of them"
    shown = client.show(number)["progress"]
    assert (shown["done"], shown["total"]) == (20_000, 20_000)
    assert client("status", refs=[number])["items"][0]["progress"] == shown
    assert client("list", state="running")["tasks"][0]["progress"] == shown
    told = [item for worker in client("workers")["workers"] for item in worker["progress"]]
    assert told == [{"task": number, **shown}]
    until.touch()
    client.wait(number)
    assert "progress" not in client.show(number)


def test_what_is_no_progress(daemon: Daemon, client: Raw) -> None:
    listener = daemon.subscriber("progress.")
    errors = result(client, task("odd-progress"))
    assert errors == ["ValueError", "ValueError", "ValueError", "TypeError", "OverflowError"]
    told = listener.next()
    assert told["message"] == "?" + "x" * 499
    assert told["done"] == 2.0**70


def test_a_task_puts_its_limit_to_sleep_and_goes_on(daemon: Daemon, client: Raw, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    limits = daemon.subscriber("limit")
    (number,) = start(client, task("slow-down", name="a", seconds=60, wait=str(go_on)))
    limits.until("limit", bucket="slow:a")
    (waits,) = start(client, task("under-limit", name="a"))
    assert client.run(task("under-limit", name="b"))[0]["ok"], "another limit"
    assert client("explain", ref=waits)["reasons"][0]["code"] == "limit_asleep"
    go_on.touch()
    client.wait(number)
    assert client.results(number)[0]["ok"]
    client("cancel", refs=[waits])
    until = result(client, task("aslow-down", name="c", seconds=0.3))
    assert result(client, task("under-limit", name="c")) >= until - 0.05


def test_a_limit_that_can_not_be_put_to_sleep(client: Raw) -> None:
    assert result(client, task("slow-down-nothing")) == ["not_found", None]
    for seconds in (0, -1, 86_401):
        assert result(client, task("slow-down", name="d", seconds=seconds)) == ["invalid_value", "seconds"]
    assert result(client, task("slow-down", name="d", seconds="long")) == ["wrong_type", "seconds"]
    with pytest.raises(Refusal) as refused:
        client("limit", seconds=1)
    assert refused.value.code == "unknown_op", "clients fall under no limit"


def lagging(figures: Subscriber) -> list[dict[str, Any]]:
    """The workers whose loop stood still when the next figures were taken."""
    return [worker for worker in figures.next()["workers"] if worker["lag"] is not None]


@pytest.mark.parametrize("deep", [False, True])
def test_a_coroutine_that_keeps_its_loop_is_noticed(daemon: Daemon, client: Raw, tmp_path: Path, deep: bool) -> None:
    until = tmp_path / "until"
    figures = daemon.subscriber("stats")
    (number,) = start(client, task("keep-loop", until=str(until), deep=deep))
    while not (blocked := lagging(figures)):
        pass
    assert blocked[0]["lag"] >= 1.0
    known = blocked[0]["blocked_by"]
    assert known == number or (deep and known is None)
    if known is not None:
        lines = [line["text"] for line in client("logs", ref=number)["lines"]]
        while not any("wait_for_file" in line for line in lines):
            lines += [client.log_line(number, after=len(lines))["text"]]
        assert any("has kept its loop" in line for line in lines)
    until.touch()
    assert client.wait(number, patience=PATIENCE)["done"]
    while lagging(figures):
        pass
    text = daemon.log_text()
    assert "has kept the loop of worker c" in text
    assert "in wait_for_file" in text


def test_an_isolated_coroutine_has_a_worker_for_itself(client: Raw) -> None:
    pid, value = result(client, task("isolated"))
    assert value == 1
    assert pid in [worker["pid"] for worker in client("workers")["workers"] if worker["kind"] == "blocking"]


def test_models_in_and_out(client: Raw) -> None:
    data = {"number": 1, "tags": ["a"]}
    assert result(client, task("job", **data)) == {"number": 2, "tags": ["done", "a"], "inner": {**data, "inner": None}}
    with pytest.raises(Refusal) as refused:
        client.submit(task("job", number=1, tags=["a", 2]))
    assert (refused.value.code, refused.value.path) == ("invalid_data", "tasks[0].data.tags[1]")
    handler = next(item for item in client("handlers")["handlers"] if item["type"] == "job")
    assert (handler["module"], handler["package"]) == ("context_tasks", None)
    assert handler["schema"]["$defs"]["Job"]["required"] == ["number", "tags"]


def test_a_template_stands_for_a_number_and_is_checked_when_it_is_rendered(client: Raw) -> None:
    echo = {"id": "n", "type": "echo", "data": {"n": 41, "word": "many"}}
    good = {"type": "job", "data": {"number": "{{ deps.n.n }}", "tags": []}, "deps": ["n"]}
    assert result(client, echo, good)["number"] == 42
    bad = {"type": "job", "data": {"number": "{{ deps.n.word }}", "tags": []}, "deps": ["n"]}
    line = client.run(echo, bad)[1]
    assert (line["state"], line["error"]["code"], line["attempts"]) == ("failed", "bad_data", 1)
    assert line["error"]["message"].startswith("data.number: ")


def test_the_log_of_a_flow(client: Raw, tmp_path: Path) -> None:
    until = tmp_path / "until"
    first = client.submit(
        {"id": "loud", "type": "keep-loop", "data": {"until": str(tmp_path)}},
        {"id": "later", "type": "keep-loop", "data": {"until": str(tmp_path)}, "deps": ["loud"]},
        {"id": "held", "type": "steps", "data": {"until": str(until), "count": 1}},
    )
    other = client.submit(task("keep-loop", until=str(tmp_path)))
    flow, after, seen = f"f{first['flow']}", 0, []
    while len(seen) < 2:
        page = client("logs", ref=flow, after=after, wait=30.0, patience=2 * PATIENCE)
        assert page["lines"], "it waits for them"
        seen += [(line["id"], line["text"]) for line in page["lines"]]
        after = page["next"]
        assert not page["ended"]
    assert seen == [("loud", "keeping"), ("later", "keeping")]
    client.wait(f"f{other['flow']}")
    waiting = client.send("logs", ref=flow, after=after, wait=30.0)
    until.touch()
    page = client.reply_to(waiting, patience=2 * PATIENCE)
    assert (page["lines"], page["ended"]) == ([], True)
    with pytest.raises(Refusal) as refused:
        client("logs", ref="f999999")
    assert (refused.value.code, refused.value.path) == ("not_found", "ref")
