"""What becomes of tasks, from submission to outcome, through a real daemon."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import Daemon, running, wait_gone, with_handlers
from helpers.raw import Raw, Refusal, ids

Task = dict[str, Any]
Lines = dict[Any, dict[str, Any]]
GRACE = 0.5


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    settings = with_handlers("odd_tasks", workers=3, batch_size=20, grace=GRACE, crash_limit=2, backoff=0.01)
    with running(**settings) as daemon:
        yield daemon


def task(kind: str, name: str | None = None, deps: list[Any] | None = None, **fields: Any) -> Task:
    """A task of that type and id; what is no field of a task is its data."""
    data = fields.pop("data", None)
    known = ("priority", "delay", "run_at", "timeout", "retries", "backoff", "template", "queue", "metadata")
    kept = {name: fields.pop(name) for name in known if name in fields}
    made: Task = {"type": kind, "data": fields if data is None else data, **kept}
    if name is not None:
        made["id"] = name
    if deps is not None:
        made["deps"] = deps
    return made


def run(client: Raw, *tasks: Task) -> Lines:
    return {line["id"]: line for line in client.run(*tasks)}


def outcomes(client: Raw, ref: Any) -> list[str]:
    return [attempt["outcome"] for attempt in client.show(ref)["attempts_log"]]


def start(client: Raw, *tasks: Task) -> list[int]:
    """Submit, and return the numbers."""
    reply = client.submit(*tasks)
    return list(range(reply["first"], reply["first"] + reply["count"]))


def wait_running(client: Raw, number: int) -> None:
    """Until an attempt runs that will not say so itself."""
    event = client("subscribe")["next"]
    topic = "task.running"
    while client.show(number)["state"] != "running":  # each round waits for the next event of the daemon
        event = client("events", **{"from": event, "topics": [topic]})["next"]


# Task types


def test_the_basic_types(client: Raw) -> None:
    lines = run(
        client,
        task("echo", "echo", data={"a": [1, "ü", None, {"b": b"bytes"}], "c": 1.5}),
        task("sleep", "sleep", seconds=0.01),
        task("spin", "spin", seconds=0.01),
        task("command", "json", args=[sys.executable, "-c", "print('{\"x\": 1}')"]),
        task("command", "stdin", args=["cat"], stdin="hello"),
    )
    assert all(line["ok"] and line["state"] == "succeeded" and line["attempts"] == 1 for line in lines.values())
    assert lines["echo"]["result"] == {"a": [1, "ü", None, {"b": b"bytes"}], "c": 1.5}
    assert lines["sleep"]["seconds"] >= 0.01
    assert lines["spin"]["result"] == {"seconds": 0.01}
    assert lines["json"]["result"] == {"stdout": {"x": 1}, "exit_code": 0}
    assert lines["stdin"]["result"] == {"stdout": "hello", "exit_code": 0}


def test_a_command_that_fails(client: Raw) -> None:
    (line,) = client.run(task("command", args=["sh", "-c", "echo broken >&2; exit 65"]))
    assert (line["state"], line["error"]["code"], line["attempts"]) == ("failed", "data_error", 1)
    assert "broken" in line["error"]["message"]
    logged = client("logs", ref=line["number"])
    assert [(entry["stream"], entry["text"]) for entry in logged["lines"]] == [("stderr", "broken")]
    assert logged["ended"]


def test_the_urgent_ones_start_first(client: Raw) -> None:
    priorities = [5, -32768, 10, 0, 32767, 5, 10, -1]
    begin = client("subscribe")["next"]
    first = client.submit(*(task("nap", priority=priority) for priority in priorities))
    client.wait(f"f{first['flow']}")
    events = client("events", **{"from": begin, "topics": ["task.running"]})["events"]
    started = [priorities[event["task"] - first["first"]] for event in events]
    assert started == sorted(priorities, reverse=True)


# Dependencies


def test_dependencies_by_outcome(client: Raw) -> None:
    parents = {"ok": task("echo", "ok"), "bad": task("refuse", "bad"), "skipped": task("echo", "skipped", ["bad"])}
    children = [
        task("echo", f"{parent}-{on}", [{"id": parent, "on": on}])
        for parent in parents
        for on in ("success", "failure", "done")
    ]
    lines = run(
        client,
        *parents.values(),
        *children,
        task("echo", "far", ["ok-failure"]),
        task("echo", "all", ["ok", {"id": "bad", "on": "failure"}]),
    )
    ran = {name for name, line in lines.items() if line["state"] == "succeeded"}
    assert ran == {"ok", "ok-success", "ok-done", "bad-failure", "bad-done", "skipped-done", "all"}
    assert lines["bad"]["state"] == "failed"
    assert lines["bad"]["error"] == {"class": "Permanent", "code": "senseless", "message": "it makes no sense"}
    skipped = lines["ok-failure"]
    assert (skipped["state"], skipped["error"]["code"], skipped["attempts"]) == ("skipped", "skipped", 0)
    assert "ok" in skipped["error"]["message"]
    assert lines["far"]["state"] == "skipped"


def test_dependencies_across_flows(client: Raw) -> None:
    first = client.submit(task("echo", "a", data={"x": 1}))
    lines = run(
        client,
        task("echo", "by-number", [{"number": first["first"]}], data={"y": f'{{{{ deps["{first["first"]}"].x }}}}'}),
        task("echo", "by-name", [{"flow": first["flow"], "id": "a"}], data={"y": "{{ deps.a.x }}"}),
    )
    assert lines["by-name"]["result"] == {"y": "1"}
    # The dependency has an id: it goes by that, not by its number.
    assert lines["by-number"]["error"]["code"] == "template_failed"


def test_a_task_waits_for_all_of_its_dependencies(client: Raw) -> None:
    begin = client("subscribe")["next"]
    first = client.submit(
        task("echo", "last", ["a", "b", "c"]), *(task("sleep", name, seconds=0.05 * i) for i, name in enumerate("abc"))
    )
    client.wait(f"f{first['flow']}")
    events = client("events", **{"from": begin, "topics": ["task."]})["events"]
    order = [(event["topic"], event["id"]) for event in events]
    started = order.index(("task.running", "last"))
    assert all(order.index(("task.succeeded", name)) < started for name in "abc")
    assert order[0] == ("task.blocked", "last")


# Templates


def test_templates(client: Raw) -> None:
    value = {"text": "{{ deps.b }}", "list": [1, {"deep": "x"}]}
    lines = run(
        client,
        task("echo", "re.search-a", data=value),
        task(
            "echo",
            "short",
            ["re.search-a"],
            data={
                "plain": "{{ deps.re_search_a.list[1].deep }}!",
                "by-name": '{{ deps["re.search-a"].list[0] }}',
                "not again": "{{ deps.re_search_a.text }}",
                "nested": [{"x": "{% for i in deps.re_search_a.list %}.{% endfor %}"}],
                "none": "no template {here}",
            },
        ),
        task("echo", "off", ["re.search-a"], data={"x": "{{ kept }}"}, template=False),
        task("echo", "alone", data={"x": "{{ kept }}"}),
    )
    assert lines["short"]["result"] == {
        "plain": "x!",
        "by-name": "1",
        "not again": "{{ deps.b }}",
        "nested": [{"x": ".."}],
        "none": "no template {here}",
    }
    assert lines["off"]["result"] == lines["alone"]["result"] == {"x": "{{ kept }}"}


@pytest.mark.parametrize(
    "text",
    ["{{ deps.nobody }}", "{{ deps.a.nothing }}", "{{ other }}", "{{ deps.a.__class__.__mro__ }}", "{{ 1 // 0 }}"],
)
def test_a_template_that_can_not_be_rendered(client: Raw, text: str) -> None:
    lines = run(client, task("echo", "a", data={"x": 1}), task("echo", "b", ["a"], data={"y": text}))
    assert (lines["b"]["state"], lines["b"]["error"]["code"]) == ("failed", "template_failed")
    assert lines["b"]["attempts"] == 1


# Retries


def test_retries(client: Raw) -> None:
    lines = run(
        client, task("fail", "third", until=3), task("fail", "never", retries=2), task("fail", "once", retries=0)
    )
    assert (lines["third"]["state"], lines["third"]["result"]) == ("succeeded", "at last")
    assert outcomes(client, lines["third"]["number"]) == ["error", "error", "done"]
    assert (lines["never"]["state"], lines["never"]["attempts"]) == ("failed", 3)
    assert lines["never"]["error"] == {"class": "RuntimeError", "code": "error", "message": "attempt 3 fails"}
    assert lines["once"]["attempts"] == 1
    logged = client.show(lines["never"]["number"])["attempts_log"]
    assert [attempt["number"] for attempt in logged] == [1, 2, 3]
    assert "RuntimeError: attempt 1 fails" in logged[0]["error"]["traceback"]


def test_between_two_tries_lies_the_backoff(client: Raw) -> None:
    begin = client("subscribe")["next"]
    (line,) = client.run(task("fail", until=4, backoff=0.2, retries=3))
    events = [
        event
        for event in client("events", **{"from": begin, "topics": ["task."]})["events"]
        if event["task"] == line["number"]
    ]
    assert [event["topic"] for event in events] == [
        "task.ready",
        *["task.running", "task.scheduled", "task.ready"] * 3,
        "task.running",
        "task.succeeded",
    ]
    waits = [
        ready["at"] - scheduled["at"]
        for scheduled, ready in zip(events[2::3], events[3::3], strict=False)
        if scheduled["topic"] == "task.scheduled"
    ]
    assert len(waits) == 3
    assert all(wait <= 0.2 * 2**n + 0.5 for n, wait in enumerate(waits))
    assert "try 1 of 4" in events[2]["reason"]


def test_what_says_that_trying_again_is_useless_is_not_tried_again(client: Raw) -> None:
    (line,) = client.run(task("refuse", retries=5))
    assert (line["state"], line["attempts"], line["error"]["code"]) == ("failed", 1, "senseless")


# Timeouts


def test_a_timeout_ends_what_burns_the_processor(client: Raw) -> None:
    (line,) = client.run(task("spin", seconds=600, timeout=0.2, retries=0))
    assert (line["state"], line["error"]["code"], line["attempts"]) == ("failed", "timeout", 1)
    assert "0.2 s" in line["error"]["message"]
    assert outcomes(client, line["number"]) == ["timeout"]
    # Asked politely, it stopped: the worker lives and has nothing to do.
    name = client.show(line["number"])["attempts_log"][0]["worker"]
    (worker,) = [worker for worker in client("workers")["workers"] if worker["name"] == name]
    assert worker["state"] == "idle"


def test_a_timeout_costs_a_try(client: Raw) -> None:
    (line,) = client.run(task("sleep", seconds=600, timeout=0.1, retries=1))
    assert outcomes(client, line["number"]) == ["timeout", "timeout"]
    assert line["state"] == "failed"


CHILDREN = "sleep 1000 & echo $! >&2; (sleep 1000 & echo $! >&2; wait) & echo $! >&2; echo $$ >&2; wait"


def pids_of(client: Raw, number: int, count: int) -> list[int]:
    """The process numbers that a command has written to its log."""
    found: list[int] = []
    after = 0
    while len(found) < count:
        line = client.log_line(number, after)
        after = line["seq"]
        found.append(int(line["text"]))
    return found


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "], ids=["polite", "deaf"])
def test_a_timeout_ends_a_command_with_its_children(client: Raw, trap: str) -> None:
    (number,) = start(client, task("command", args=["sh", "-c", trap + CHILDREN], timeout=0.5, retries=0))
    pids = pids_of(client, number, 4)
    client.wait(number)
    (line,) = client.results(number)
    assert (line["state"], line["error"]["code"]) == ("failed", "timeout")
    assert all(wait_gone(pid, 5) for pid in pids)


# Cancelling


def test_cancel_what_waits(client: Raw) -> None:
    numbers = start(
        client, task("echo", "later", delay=3600), task("echo", "after", ["later"]), task("echo", "done", ["after"])
    )
    assert [client.show(number)["state"] for number in numbers] == ["scheduled", "blocked", "blocked"]
    assert client("cancel", refs=[numbers[1]]) == {"cancelled": 1, "requested": 0, "unchanged": 0}
    assert client("cancel", refs=[numbers[1]]) == {"cancelled": 0, "requested": 0, "unchanged": 1}
    client.wait(numbers[2])
    assert [client.show(number)["state"] for number in numbers] == ["scheduled", "cancelled", "skipped"]
    client("cancel", refs=[numbers[0]])


def test_cancel_what_runs(client: Raw) -> None:
    numbers = start(
        client,
        task("polite", seconds=600),
        task("spin", seconds=600),
        task("command", args=["sh", "-c", CHILDREN]),
        task("sleep", seconds=600),
    )
    pids = pids_of(client, numbers[2], 4)
    for number in numbers:
        wait_running(client, number)
    assert client.log_line(numbers[0])["text"] == "waiting"
    assert client("cancel", refs=[f"{numbers[0]}-{numbers[-1]}"]) == {"cancelled": 0, "requested": 4, "unchanged": 0}
    client.wait(*numbers)
    assert [line["state"] for line in client.results(*numbers)] == ["cancelled"] * 4
    assert [outcomes(client, number) for number in numbers] == [["cancelled"]] * 4
    assert client("logs", ref=numbers[0])["lines"][-1]["text"] == "stopping, cancelled=True"
    assert all(wait_gone(pid, 5) for pid in pids)
    assert all(worker["state"] == "idle" for worker in client("workers")["workers"])


def test_cancel_right_after_submitting() -> None:
    """Whatever moment the request meets (queued, handed over, just begun), the task ends as cancelled, by being asked."""
    with running(**with_handlers("odd_tasks", workers=3, batch_size=20, grace=600.0)) as daemon:
        client = daemon.client()
        for kind in ("spin", "sleep", "nap"):
            for _ in range(10):
                reply = client.submit(task(kind, seconds=600), task(kind, seconds=600))
                client("cancel", refs=[f"f{reply['flow']}"])
                client.wait(f"f{reply['flow']}")
                assert [line["state"] for line in client.results(f"f{reply['flow']}")] == ["cancelled"] * 2


def test_cancel_a_flow(client: Raw) -> None:
    reply = client.submit(
        task("echo", "done"),
        task("sleep", "runs", seconds=600),
        task("echo", "waits", ["runs"]),
        task("echo", "later", delay=600),
    )
    flow = f"f{reply['flow']}"
    client.wait(reply["first"])
    wait_running(client, reply["first"] + 1)
    assert client("cancel", refs=[flow]) == {"cancelled": 2, "requested": 1, "unchanged": 1}
    client.wait(flow)
    assert [line["state"] for line in client.results(flow)] == ["succeeded", "cancelled", "cancelled", "cancelled"]
    (item,) = client("status", refs=[flow])["items"]
    assert item["state"] == "cancelled"


# Retry by a person


def test_retry_a_flow(client: Raw, tmp_path: Path) -> None:
    switch = tmp_path / "works"
    reply = client.submit(
        task("echo", "fine"),
        task("refuse", "root", ["fine"], unless=str(switch)),
        task("echo", "child", ["root"]),
        task("echo", "grandchild", ["child", "fine"]),
    )
    flow = f"f{reply['flow']}"
    client.wait(flow)
    assert [line["state"] for line in client.results(flow)] == ["succeeded", "failed", "skipped", "skipped"]
    assert client("status", refs=[flow])["items"][0]["state"] == "failed"
    switch.touch()
    assert client("retry", refs=[flow]) == {"retried": 3, "unchanged": 1}
    client.wait(flow)
    assert [line["state"] for line in client.results(flow)] == ["succeeded"] * 4
    assert client("status", refs=[flow])["items"][0]["state"] == "succeeded"
    assert outcomes(client, reply["first"] + 1) == ["permanent", "done"]
    assert client("retry", refs=[flow]) == {"retried": 0, "unchanged": 4}


def test_retry_a_task_and_what_depends_on_it(client: Raw, tmp_path: Path) -> None:
    switch = tmp_path / "works"
    tasks = (
        task("refuse", "root", unless=str(switch)),
        task("echo", "child", ["root"]),
        task("echo", "far", ["child"]),
    )
    alone, along = client.submit(*tasks), client.submit(*tasks)
    client.wait(f"f{alone['flow']}", f"f{along['flow']}")
    switch.touch()
    assert client("retry", refs=[f"f{alone['flow']}/root"]) == {"retried": 1, "unchanged": 0}
    assert client("retry", refs=[f"f{along['flow']}/root"], downstream=True)["retried"] == 3
    client.wait(f"f{alone['flow']}", f"f{along['flow']}")
    assert [line["state"] for line in client.results(f"f{alone['flow']}")] == ["succeeded", "skipped", "skipped"]
    assert [line["state"] for line in client.results(f"f{along['flow']}")] == ["succeeded"] * 3


# Times


def test_not_before_its_time(client: Raw) -> None:
    now = client("ping")["now"]
    lines = run(
        client,
        task("echo", "delay", delay=0.3),
        task("echo", "run_at", run_at=now + 0.3),
        task("echo", "past", run_at=1.0),
        task("echo", "both", ["past"], delay=0.3),
    )
    for name in ("delay", "run_at", "both"):
        assert client.show(lines[name]["number"])["started"] >= now + 0.3
    assert client.show(lines["past"]["number"])["started"] < now + 0.3


# Deaths of workers


@pytest.mark.parametrize(("how", "cause"), [("exit", "exit status 3"), ("SIGSEGV", "SIGSEGV"), ("SIGKILL", "SIGKILL")])
def test_a_task_that_kills_its_worker_is_quarantined(client: Raw, how: str, cause: str) -> None:
    (line,) = client.run(task("die", how=how), patience=20)
    assert (line["state"], line["attempts"]) == ("quarantined", 2)
    assert line["error"]["code"] == "crash"
    assert cause in line["error"]["message"]
    shown = client.show(line["number"])
    assert cause in shown["reason"]
    assert outcomes(client, line["number"]) == ["crash", "crash"]


def test_neighbours_of_a_coroutine_that_kills_their_worker(client: Raw) -> None:
    lines = run(
        client,
        task("adie", "culprit", how="exit", seconds=0.2),
        *(task("sleep", f"{i}", seconds=0.4) for i in range(6)),
    )
    assert lines["culprit"]["state"] == "quarantined"
    assert outcomes(client, lines["culprit"]["number"]) == ["suspect", "crash", "crash"]
    for i in range(6):
        line = lines[f"{i}"]
        assert line["state"] == "succeeded"
        assert outcomes(client, line["number"]) == ["suspect", "done"]


def test_a_coroutine_that_blocks_its_loop(client: Raw) -> None:
    lines = run(
        client,
        task("hog", "hog", seconds=600, timeout=0.3, retries=0),
        *(task("sleep", f"{i}", seconds=0.3) for i in range(3)),
    )
    assert (lines["hog"]["state"], lines["hog"]["error"]["code"]) == ("failed", "timeout")
    for i in range(3):
        assert lines[f"{i}"]["state"] == "succeeded"
        assert outcomes(client, lines[f"{i}"]["number"]) == ["lost", "done"]


@pytest.mark.parametrize("kind", ["deaf", "adeaf"])
@pytest.mark.parametrize("why", ["timeout", "cancel"])
def test_who_does_not_stop_when_asked_is_killed(client: Raw, kind: str, why: str) -> None:
    (number,) = start(client, task(kind, seconds=600, timeout=0.5 if why == "timeout" else 60, retries=0))
    assert client.log_line(number)["text"] == "deaf"
    worker = next(w for w in client("workers")["workers"] if number in w["tasks"])
    if why == "cancel":
        client("cancel", refs=[number])
    client.wait(number)
    assert client.show(number)["attempts_log"][0]["seconds"] >= GRACE
    (line,) = client.results(number)
    assert line["state"] == ("failed" if why == "timeout" else "cancelled")
    assert outcomes(client, number) == ["timeout" if why == "timeout" else "cancelled"]
    assert wait_gone(worker["pid"], 5)
    # And the next one finds a worker.
    assert client.run(task("echo"), task("sleep", seconds=0))[1]["ok"]


def test_the_neighbours_of_a_deaf_coroutine_may_finish(client: Raw) -> None:
    lines = run(
        client,
        task("adeaf", "deaf", seconds=600, timeout=0.2, retries=0),
        *(task("sleep", f"{i}", seconds=0.2 + GRACE * 1.5) for i in range(3)),
    )
    assert lines["deaf"]["state"] == "failed"
    assert [outcomes(client, lines[f"{i}"]["number"]) for i in range(3)] == [["done"]] * 3


def test_a_worker_that_is_killed_from_outside(client: Raw) -> None:
    (number,) = start(client, task("nap", seconds=1, say="begun"))
    client.log_line(number)  # until then what it kills would have started nothing
    worker = next(w for w in client("workers")["workers"] if number in w["tasks"])
    os.kill(worker["pid"], signal.SIGKILL)
    client.wait(number)
    assert outcomes(client, number) == ["crash", "done"]


# Hand-over


def test_short_tasks_behind_a_suddenly_long_one(client: Raw) -> None:
    client.run(*(task("nap") for _ in range(200)))  # so that several are handed over at a time
    reply = client.submit(task("nap", "long", seconds=600), *(task("nap", f"{i}") for i in range(300)))
    first, last = reply["first"] + 1, reply["first"] + 300
    client.wait(f"{first}-{last}")
    assert client.show(reply["first"])["state"] == "running"
    lines = client.results(f"{first}-{last}")
    assert all(line["ok"] and line["attempts"] == 1 for line in lines), "what was taken back had not begun"
    assert len(ids(lines)) == 300
    client("cancel", refs=[reply["first"]])
    client.wait(reply["first"])


def test_results_and_status_of_what_is_not_there(client: Raw) -> None:
    for op, body in (("results", {"refs": ["f9999999"]}), ("show", {"ref": 9999999}), ("wait", {"refs": ["f1/none"]})):
        with pytest.raises(Refusal) as caught:
            client(op, **body)
        assert caught.value.code == "not_found"


# Results while the rest runs


def test_results_come_in_order_while_the_rest_runs(client: Raw) -> None:
    tasks = (task("echo", "a", n=1), task("sleep", "b", seconds=60), task("echo", "c", n=3))
    flow = client.submit(*tasks)["flow"]
    page = client("results", refs=[f"f{flow}"], wait=30)
    assert [line["id"] for line in page["results"]] == ["a"]
    assert not page["done"]
    client("wait", refs=[f"f{flow}/c"])
    nothing = client("results", refs=[f"f{flow}"], after=page["next"], wait=0)
    assert nothing == {"results": [], "next": page["next"], "done": False}, "c has ended, and b before it has not"
    client("cancel", refs=[f"f{flow}/b"])
    rest = client("results", refs=[f"f{flow}"], after=page["next"], wait=30, limit=1)
    assert [line["id"] for line in rest["results"]] == ["b"]
    last = client("results", refs=[f"f{flow}"], after=rest["next"], wait=30)
    assert [line["id"] for line in last["results"]] == ["c"]
    assert last["done"]


def test_wait_brings_the_results_along(client: Raw) -> None:
    answer = client.submit(task("echo", "a", n=1), task("echo", "b", n=2))
    ended = client("wait", refs=[f"f{answer['flow']}"], results=1)
    assert [line["result"] for line in ended["results"]] == [{"n": 1}]
    assert ended["next"] == answer["first"]
    assert "results" not in client("wait", refs=[f"f{answer['flow']}"])
