"""The shared memory through a real daemon: clients and tasks, races, lives, watching, and what ends in between."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.daemon import Daemon, running, with_handlers
from helpers.raw import Raw, Refusal

Task = dict[str, Any]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    settings = with_handlers("asking_tasks", workers=2, batch_size=50, backoff=0.01, grace=1.0, memory_max_mb=4)
    with running(**settings) as daemon:
        yield daemon


def calls(kind: str, *calls: tuple[str, dict[str, Any]], **data: Any) -> Task:
    return {"type": kind, "data": {"calls": [list(call) for call in calls], **data}}


def result(client: Raw, task: Task) -> Any:
    (line,) = client.run(task)
    assert line["ok"], line
    return line["result"]


def code(client: Raw, op: str, **body: Any) -> tuple[str, str | None]:
    with pytest.raises(Refusal) as refused:
        client(op, **body)
    return refused.value.code, refused.value.path


def test_a_client_sets_gets_lists_and_deletes(client: Raw) -> None:
    first = client("memory_set", key="a/1", value={"x": [1, b"bytes", None]}, namespace="client")
    assert (first["namespace"], first["key"]) == ("client", "a/1")
    again = client("memory_set", key="a/1", value=None, namespace="client", ttl=100, version=first["version"])
    assert again["version"] > first["version"]
    found = client("memory_get", key="a/1", namespace="client")
    assert (found["value"], found["version"], found["writer"]) == (None, again["version"], {"client": None})
    assert found["expires"] == pytest.approx(found["updated"] + 100, abs=1)
    client("memory_set", key="b", value=1, namespace="client")
    items = client("memory_list", namespace="client", prefix="a/")["items"]
    assert [(item["key"], item["bytes"], "value" in item) for item in items] == [("a/1", 1, False)]
    page = client("memory_list", namespace="client", limit=1, values=True)
    assert (page["items"][0]["value"], page["next"]) == (None, "a/1")
    assert [item["key"] for item in client("memory_list", namespace="client", after="a/1")["items"]] == ["b"]
    known = {item["namespace"]: item["keys"] for item in client("memory_list", namespaces=True)["namespaces"]}
    assert known["client"] == 2
    assert client("memory_delete", key="b", namespace="client") == {"deleted": True}
    assert client("memory_delete", key="b", namespace="client") == {"deleted": False}
    assert code(client, "memory_get", key="b", namespace="client") == ("not_found", "key")
    assert code(client, "memory_get", key="a/1") == ("not_found", "key"), "the default namespace is another one"


@pytest.mark.parametrize(
    ("op", "body", "expected"),
    [
        ("memory_set", {"key": "a"}, ("missing_field", "value")),
        ("memory_set", {"key": "", "value": 1}, ("invalid_value", "key")),
        ("memory_set", {"key": "a\nb", "value": 1}, ("invalid_value", "key")),
        ("memory_set", {"key": "x" * 201, "value": 1}, ("invalid_value", "key")),
        ("memory_set", {"key": "a", "value": 1, "namespace": "\x7f"}, ("invalid_value", "namespace")),
        ("memory_set", {"key": "a", "value": 1, "ttl": 0}, ("invalid_value", "ttl")),
        ("memory_set", {"key": "a", "value": 1, "ttl": float("nan")}, ("invalid_value", "ttl")),
        ("memory_set", {"key": "a", "value": 1, "version": -1}, ("invalid_value", "version")),
        ("memory_set", {"key": "a", "value": 1, "version": 2**63}, ("invalid_value", "version")),
        ("memory_set", {"key": "a", "value": {"x": float("inf")}}, ("invalid_value", "value.x")),
        ("memory_set", {"key": "a", "value": "x" * 2_000_000}, ("too_large", "value")),
        ("memory_set", {"key": "a", "value": 1, "nonsense": 1}, ("unknown_field", "nonsense")),
        ("memory_set", {"key": "no", "value": 1, "version": 7}, ("version_mismatch", "version")),
        ("memory_delete", {"key": 1}, ("wrong_type", "key")),
        ("memory_list", {"limit": 0}, ("invalid_value", "limit")),
        ("memory_list", {"prefix": "\x00"}, ("invalid_value", "prefix")),
    ],
)
def test_what_is_refused(client: Raw, op: str, body: dict[str, Any], expected: tuple[str, str]) -> None:
    assert code(client, op, **body) == expected


def test_all_values_together_have_a_cap_that_may_be_changed(client: Raw) -> None:
    large = {"value": "x" * 1_000_000, "namespace": "full"}
    for number in range(4):
        client("memory_set", key=f"{number}", **large)
    assert code(client, "memory_set", key="4", **large) == ("too_large", "value")
    client("config", set={"memory_max_mb": 6})
    client("memory_set", key="4", **large)
    client("config", reset=["memory_max_mb"])
    for number in range(5):
        client("memory_delete", key=f"{number}", namespace="full")


@pytest.mark.parametrize("kind", ["remember", "aremember"])
def test_a_task_sets_and_gets(client: Raw, kind: str) -> None:
    name = f"by-{kind}"
    client("memory_set", key=name, value="of the client")
    task = calls(
        kind,
        ("get", {"key": name}),
        ("get", {"key": "nothing", "default": 3}),
        ("set", {"key": name, "value": {"of": "the task"}}),
        ("set", {"key": name, "value": 1, "version": 0}),
        ("set", {"key": "", "value": 1}),
        ("list", {"prefix": name}),
        ("delete", {"key": "nothing"}),
    )
    found = result(client, task)
    assert found[:2] == ["of the client", 3]
    assert found[3:5] == [
        {"refused": "version_mismatch", "path": "version"},
        {"refused": "invalid_value", "path": "key"},
    ]
    assert [item["key"] for item in found[5]] == [name]
    assert found[6] is False
    value = client("memory_get", key=name)
    assert (value["value"], value["version"]) == ({"of": "the task"}, found[2])
    assert value["writer"]["attempt"] == 1
    assert client.show(value["writer"]["task"])["type"] == kind


def test_many_coroutines_count_exactly(client: Raw) -> None:
    """Compare and set: no addition is lost, however many add at a time."""
    lines = client.run(*({"type": "count", "data": {"key": "counter", "times": 5}} for _ in range(60)))
    assert all(line["ok"] for line in lines), lines
    assert client("memory_get", key="counter")["value"] == 300
    assert sum(line["result"] for line in lines) > 0, "they were in each other's way"


def test_more_than_may_be_unanswered_wait_their_turn(client: Raw) -> None:
    assert result(client, {"type": "many-at-once", "data": {"number": 300}}) == 300
    known = {item["namespace"]: item["keys"] for item in client("memory_list", namespaces=True)["namespaces"]}
    assert known["many"] == 300


def test_a_handler_s_own_threads_may_ask(client: Raw) -> None:
    assert result(client, {"type": "threads"}) == 160


def test_a_task_may_ask_for_little(client: Raw) -> None:
    for op in ("cancel", "shutdown", "config", "hello", "nonsense"):
        assert result(client, {"type": "ask-anything", "data": {"op": op}}) == {"refused": "unknown_op", "path": "op"}
    wrong = {"op": "memory_get", "body": {"key": "a", "nonsense": 1}}
    assert result(client, {"type": "ask-anything", "data": wrong}) == {"refused": "unknown_field", "path": "nonsense"}


def test_a_refusal_that_is_let_through_is_an_error(client: Raw) -> None:
    (line,) = client.run({"type": "lets-through", "retries": 1})
    assert (line["state"], line["attempts"]) == ("failed", 2)
    assert (line["error"]["class"], line["error"]["code"]) == ("RequestRefused", "invalid_value")


def test_an_attempt_that_has_ended_asks_in_vain() -> None:
    with running(**with_handlers("asking_tasks", workers=1)) as daemon, Raw(daemon.endpoint) as client:
        left = result(client, {"type": "leave"})
        told = result(client, {"type": "haunt"})
        stale = {"refused": "stale_attempt", "path": None}
        assert told == [left, stale, stale], "in the same worker"
        assert code(client, "memory_get", key="late")[0] == "not_found"


def test_a_coroutine_in_a_blocking_worker_asks_too(client: Raw) -> None:
    """One whose worker died with several in it runs again alone, in a blocking worker."""
    task = calls("aremember", ("set", {"key": "alone", "value": 1}), ("get", {"key": "alone"}), dies=0.2)
    lines = client.run(task, {"type": "sleep", "data": {"seconds": 1.0}})
    number = lines[0]["number"]
    assert [attempt["outcome"] for attempt in client.show(number)["attempts_log"]] == ["suspect", "done"]
    assert client.show(number)["attempts_log"][1]["worker"].startswith("b")
    assert lines[0]["result"][1] == 1
    assert client("memory_get", key="alone")["writer"] == {"task": number, "attempt": 2}


def test_watching(daemon: Daemon, client: Raw) -> None:
    subscriber = daemon.subscriber("memory")
    version = client("memory_set", key="watched", value=1, ttl=0.2)["version"]
    event = subscriber.until("memory", key="watched")[-1]
    assert (event["version"], event["deleted"], event["namespace"]) == (version, False, "default")
    event = subscriber.until("memory", key="watched", deleted=True)[-1]
    assert event["version"] is None, "it has expired"
    assert code(client, "memory_get", key="watched")[0] == "not_found"
    missed = client("events", **{"from": 1, "topics": ["memory"]})["events"]
    assert [e["deleted"] for e in missed if e["key"] == "watched"] == [False, True]


def test_what_was_acknowledged_is_there_after_a_kill() -> None:
    with running(**with_handlers("asking_tasks", workers=1)) as daemon:
        with Raw(daemon.endpoint) as client:
            versions = [client("memory_set", key=f"{n}", value=n)["version"] for n in range(20)]
            client("memory_set", key="short", value=1, ttl=1_000)
            before = client("memory_get", key="short")["expires"]
            client("memory_delete", key="0")
        daemon.kill()
        daemon.restart()
        with Raw(daemon.endpoint) as client:
            items = client("memory_list", values=True)["items"]
            assert {item["key"]: item["value"] for item in items} == {**{f"{n}": n for n in range(1, 20)}, "short": 1}
            assert client("memory_get", key="short")["expires"] == pytest.approx(before, abs=1)
            assert client("memory_set", key="0", value=0, version=0)["version"] > max(versions)


def test_what_a_killed_worker_had_set_stays(daemon: Daemon, client: Raw) -> None:
    subscriber = daemon.subscriber("memory", "worker")
    number = client.submit({"type": "count", "data": {"key": "endless", "times": 10**9}})["first"]
    for _ in range(20):
        subscriber.until("memory", key="endless")
    worker = client.show(number)["worker"]
    pid = next(w["pid"] for w in client("workers")["workers"] if w["name"] == worker)
    os.kill(pid, signal.SIGKILL)
    subscriber.until("worker", worker=worker, state="down")
    at_least = client("memory_get", key="endless")["value"]
    client("cancel", refs=[number])
    client.wait(number)
    assert client("memory_get", key="endless")["value"] >= at_least
    assert client.show(number)["attempts_log"][0]["outcome"] in ("crash", "suspect")
