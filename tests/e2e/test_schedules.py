"""Schedules of a real daemon, by raw requests. Each test waits for the event of the run that it is about."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.daemon import Daemon, running
from helpers.raw import Raw, Refusal, Subscriber

EVERY_SECOND = "* * * * * *"
NEVER_SOON = "0 0 29 2 *"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running("--offline", workers=2) as daemon:
        yield daemon


def echo(**data: Any) -> dict[str, Any]:
    return {"type": "echo", "data": data}


def until(events: Subscriber, name: str, what: str) -> dict[str, Any]:
    return events.until("schedule", schedule=name, what=what)[-1]


def test_a_run_is_a_flow_with_its_name_and_moment(daemon: Daemon, client: Raw) -> None:
    events = daemon.subscriber("schedule")
    before = time.time()
    added = client("schedule_add", name="tick", cron=EVERY_SECOND, task=echo(a=1), overlap="allow")
    assert before < added["next_run"] <= time.time() + 1
    assert {key: added[key] for key in added if key not in ("next_run", "created")} == {
        "name": "tick", "cron": EVERY_SECOND, "zone": "UTC", "misfire": "once", "misfire_limit": 10, "overlap": "allow",
        "paused": False, "last_run": None, "last_flow": None, "fired": 0, "skipped": 0, "task": echo(a=1),
    }  # fmt: skip
    fired = until(events, "tick", "fired")
    assert fired["run_at"] == added["next_run"]
    assert fired["at"] >= fired["run_at"]
    again = until(events, "tick", "fired")
    assert again["run_at"] == fired["run_at"] + 1
    assert client("schedule_remove", name="tick") == {"name": "tick"}
    flow = client.show(f"f{fired['flow']}")
    assert (flow["name"], flow["metadata"]) == ("tick", {"schedule": "tick", "run_at": fired["run_at"]})
    client.wait(f"f{fired['flow']}")
    (line,) = client.results(f"f{fired['flow']}")
    assert line["result"] == {"a": 1}
    with pytest.raises(Refusal) as refused:
        client("schedule_show", name="tick")
    assert (refused.value.code, refused.value.path) == ("not_found", "name")


def test_paused_and_resumed(daemon: Daemon, client: Raw) -> None:
    events = daemon.subscriber("schedule")
    assert (
        client("schedule_add", name="idle", cron=EVERY_SECOND, task=echo(), overlap="allow", paused=True)["next_run"]
        is None
    )
    assert until(events, "idle", "added")["at"] > 0
    resumed = client("schedule_resume", name="idle")
    assert (resumed["paused"], resumed["next_run"] > resumed["created"]) == (False, True)
    fired = until(events, "idle", "fired")
    paused = client("schedule_pause", name="idle")
    assert (paused["paused"], paused["next_run"]) == (True, None)
    assert client("schedule_show", name="idle") == paused
    assert paused["fired"] == paused["last_run"] - fired["run_at"] + 1, "one a second"
    client("schedule_remove", name="idle")


def test_each_run_has_a_budget_of_its_own(daemon: Daemon, client: Raw) -> None:
    events = daemon.subscriber("schedule")
    task = {"type": "gemini", "data": {"prompt": "x", "tools": ["list_files"]}, "budget": {"tokens": 1_000_000}}
    added = client("schedule_add", name="paid", cron=EVERY_SECOND, task=task, overlap="allow")
    assert added["task"]["budget"] == {"tokens": 1_000_000}
    flow = until(events, "paid", "fired")["flow"]
    client("schedule_remove", name="paid")
    (budget,) = (it for it in client("budget_list")["budgets"] if it["of"] == f"f{flow}")
    assert (budget["tokens"], budget["action"]) == (1_000_000, "hold")
    with pytest.raises(Refusal, match="no_price"):
        priced = {"type": "gemini", "data": {"prompt": "x"}, "budget": {"money": 1.0}}
        client("schedule_add", name="paid", cron=EVERY_SECOND, task=priced)
    with pytest.raises(Refusal, match=r"task\.budget"):
        client("schedule_add", name="paid", cron=EVERY_SECOND, task={**task, "budget": {}})


def test_they_are_listed_by_name_and_shown_as_they_were_given(client: Raw) -> None:
    given = {"task": "Collect facts about rivers.", "agent": client("handlers")["agents"][0]["name"]}
    b = client(
        "schedule_add", name="b", cron=NEVER_SOON, zone="Europe/Berlin", task=given, misfire="all", misfire_limit=3
    )
    a = client("schedule_add", name="a", cron="@yearly", task=echo(), overlap="queue")
    assert client("schedule_list")["schedules"] == [a, b]
    assert client("schedule_show", name="b") == b
    assert b["task"] == given
    with pytest.raises(Refusal) as refused:
        client("schedule_add", name="a", cron="@hourly", task=echo())
    assert (refused.value.code, refused.value.path) == ("conflict", "name")
    assert client("schedule_add", name="a", cron="@hourly", task=echo(), replace=True)["cron"] == "@hourly"
    for name in "ab":
        client("schedule_remove", name=name)
    assert client("schedule_list") == {"schedules": []}


def test_a_list_of_large_tasks_leaves_them_out(client: Raw) -> None:
    """The reply is bounded, whatever people put into their tasks."""
    large = echo(text="x" * 1_000_000)
    for name in "abcdefghi":
        client("schedule_add", name=name, cron=NEVER_SOON, task=large)
    listed = client("schedule_list")["schedules"]
    assert [(it["name"], it["task"]) for it in listed] == [(name, None) for name in "abcdefghi"]
    assert client("schedule_show", name="b")["task"] == large
    for name in "bcdefghi":
        client("schedule_remove", name=name)
    (listed,) = client("schedule_list")["schedules"]
    assert listed["task"] == large
    client("schedule_remove", name="a")
    with pytest.raises(Refusal) as refused:
        client("schedule_add", name="a", cron=NEVER_SOON, task=echo(text="x" * 1_100_000))
    assert (refused.value.code, refused.value.path) == ("too_large", "task.data")


def test_the_persona_is_written_into_the_task(daemon: Daemon, client: Raw) -> None:
    """When the schedule is added, as a submission does it."""
    events = daemon.subscriber("schedule")
    agent = client("handlers")["agents"][0]["name"]
    client("schedule_add", name="facts", cron=EVERY_SECOND, task={"task": "Facts about rivers.", "agent": agent})
    flow = f"f{until(events, 'facts', 'fired')['flow']}"
    client("schedule_remove", name="facts")
    client.wait(flow)
    (line,) = client.results(flow)
    data = client.show(line["number"])["data"]
    assert (data["prompt"], bool(data["system"]), data["model"]) == ("Facts about rivers.", True, "gemini-2.5-flash")


@pytest.mark.parametrize(
    ("wrong", "code", "path"),
    [
        ({"name": "a b"}, "invalid_value", "name"),
        ({"name": "x" * 129}, "invalid_value", "name"),
        ({"cron": "61 * * * *"}, "invalid_value", "cron"),
        ({"cron": "* * * *"}, "invalid_value", "cron"),
        ({"cron": "0 0 30 2 *"}, "invalid_value", "cron"),
        ({"zone": "Mars/Olympus"}, "invalid_value", "zone"),
        ({"misfire": "sometimes"}, "invalid_value", "misfire"),
        ({"misfire_limit": 0}, "invalid_value", "misfire_limit"),
        ({"misfire_limit": 101}, "invalid_value", "misfire_limit"),
        ({"overlap": "maybe"}, "invalid_value", "overlap"),
        ({"overlaps": "skip"}, "unknown_field", "overlaps"),
        ({"task": "echo"}, "wrong_type", "task"),
        ({"task": {"type": "nothing"}}, "unknown_type", "task.type"),
        ({"task": {"type": "sleep", "data": {}}}, "invalid_data", "task.data"),
        ({"task": {"type": "echo", "priority": 1 << 40}}, "invalid_value", "task.priority"),
        ({"task": {"type": "echo", "prio": 1}}, "unknown_field", "task.prio"),
        ({"task": {"task": "x", "agent": "nobody-of-that-name"}}, "unknown_agent", "task.agent"),
        *(
            ({"task": {"type": "echo", field: value}}, "invalid_value", f"task.{field}")
            for field, value in {
                "deps": [1], "when": "true", "delay": 1.0, "run_at": 0, "expires": 5, "key": "k",
                "key_ttl": 1.0, "key_conflict": "return",
            }.items()
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_and_leaves_nothing(
    client: Raw, wrong: dict[str, Any], code: str, path: str
) -> None:
    good = {"name": "wrong", "cron": "@daily", "task": echo()}
    with pytest.raises(Refusal) as refused:
        client("schedule_add", **{**good, **wrong})
    assert (refused.value.code, refused.value.path) == (code, path)
    assert client("schedule_list") == {"schedules": []}


@pytest.mark.parametrize("op", ["schedule_show", "schedule_pause", "schedule_resume", "schedule_remove"])
def test_there_is_no_such_schedule(client: Raw, op: str) -> None:
    with pytest.raises(Refusal) as refused:
        client(op, name="nothing")
    assert (refused.value.code, refused.value.path) == ("not_found", "name")


def test_one_that_waits_for_the_end_of_the_last_one(daemon: Daemon, client: Raw) -> None:
    events = daemon.subscriber("schedule", "flow.")
    task = {"type": "sleep", "data": {"seconds": 600}}
    client("schedule_add", name="long", cron=EVERY_SECOND, task=task, overlap="queue")
    first = until(events, "long", "fired")
    queued = until(events, "long", "queued")
    assert queued["run_at"] == first["run_at"] + 1
    skipped = until(events, "long", "skipped")
    assert skipped["run_at"] == queued["run_at"] + 1
    client("cancel", refs=[f"f{first['flow']}"])
    second = until(events, "long", "fired")
    assert second["run_at"] == queued["run_at"]
    client("schedule_remove", name="long")
    client("cancel", refs=[f"f{second['flow']}"])


@pytest.mark.slow
def test_a_killed_daemon_goes_on_where_it_was() -> None:
    """No run is lost and none is there twice, though it dies between runs that come every second."""
    with running(workers=1) as daemon:
        events = daemon.subscriber("schedule")
        added = daemon.client()(
            "schedule_add",
            name="tick",
            cron=EVERY_SECOND,
            task=echo(),
            misfire="all",
            misfire_limit=100,
            overlap="allow",
        )
        until(events, "tick", "fired")
        daemon.kill()
        daemon.restart()
        events = daemon.subscriber("schedule")
        last = until(events, "tick", "fired")
        client = daemon.client()
        shown = client("schedule_remove", name="tick")
        assert shown == {"name": "tick"}
        said = client("events", **{"from": 1, "topics": ["schedule"], "limit": 5000})["events"]
        fired = [event["run_at"] for event in said if event["what"] == "fired"]
        assert fired == [added["next_run"] + index for index in range(len(fired))]
        assert last["run_at"] in fired
        flows = {event["flow"] for event in said if event["what"] == "fired"}
        assert len(flows) == len(fired)
        assert sum(client("status")["flows"].values()) == len(fired)
