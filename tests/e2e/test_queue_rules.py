"""The rules of the queue through a real daemon: conditions, keys, time, resources, steering, streams, explain."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from helpers.ctl import Ctl
from helpers.daemon import Daemon, running, with_handlers, write_settings
from helpers.raw import Raw, Refusal


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    settings = with_handlers("odd_tasks", workers=2, batch_size=20, backoff=0.01, resources=["gpu=1"], grace=0.5)
    with running(**settings) as daemon:
        with Raw(daemon.endpoint) as client:  # both kinds of worker are there
            assert client.run({"type": "sleep", "data": {"seconds": 0}}, {"type": "echo"})[0]["ok"]
        yield daemon


def states(client: Raw, flow: int) -> list[str]:
    return [task["state"] for task in client("list", flow=flow)["tasks"]]


def code(client: Raw, op: str, **body: Any) -> str | None:
    try:
        client(op, **body)
    except Refusal as refusal:
        return refusal.code
    return None


def codes(client: Raw, ref: Any) -> list[str]:
    return [reason["code"] for reason in client("explain", ref=ref)["reasons"]]


def test_the_guides_conditional_example_as_edges(client: Raw) -> None:
    lines = client.run(
        {"id": "check", "type": "echo", "data": {"score": 0.4}},
        {"id": "good", "type": "echo", "deps": ["check"], "when": "deps.check.result.score >= 0.5"},
        {"id": "poor", "type": "echo", "deps": ["check"], "when": "deps.check.result.score < 0.5"},
        {"id": "after good", "type": "echo", "deps": ["good"]} | {"id": "after-good"},
        {"id": "always", "type": "echo", "deps": [{"id": "good", "on": "done"}, {"id": "poor", "on": "done"}]},
    )
    assert [line["state"] for line in lines] == ["succeeded", "skipped", "succeeded", "skipped", "succeeded"]
    assert lines[1]["error"]["message"] == "when: deps.check.result.score >= 0.5"
    assert lines[3]["error"]["message"] == "dependency good ended skipped, needed success"


def test_the_same_from_a_program(client: Raw) -> None:
    (check,) = client.run({"type": "echo", "data": {"score": 0.4}})
    kind = "good" if check["result"]["score"] >= 0.5 else "poor"
    (line,) = client.run({"type": "echo", "data": {"kind": kind}, "deps": [{"number": check["number"]}]})
    assert line["result"] == {"kind": "poor"}


def test_a_key_returns_rejects_and_replaces(client: Raw) -> None:
    waiting = {"type": "echo", "delay": 300, "key": "nightly"}
    first = client.submit(waiting)
    again = client.submit({**waiting, "data": {"other": 1}})
    assert (again["first"], again["flow"], again["key"]) == (first["first"], first["flow"], "returned")
    with pytest.raises(Refusal, match=f"task {first['first']} \\(scheduled\\)") as refused:
        client.submit({**waiting, "key_conflict": "reject"})
    assert (refused.value.code, refused.value.path) == ("duplicate_key", "tasks[0].key")
    other = client.submit({**waiting, "key_conflict": "replace"})
    assert client.show(first["first"])["reason"] == f"replaced by task {other['first']}"
    client("cancel", refs=[other["first"]])
    assert client.submit({**waiting, "delay": 0})["repeated"] is False


def test_moments_are_numbers_or_iso_8601_with_a_zone(client: Raw) -> None:
    at = client("ping")["now"] + 1000
    text = datetime.fromtimestamp(at, UTC).isoformat()
    one = client.submit({"type": "echo", "run_at": text})["first"]
    assert client.show(one)["due"] == pytest.approx(at, abs=1e-3)
    gone = client.submit({"type": "echo", "delay": 500, "expires": "2020-01-01T00:00:00Z"})["first"]
    client.wait(gone)
    assert client.show(gone)["state"] == "skipped"
    assert code(client, "submit", submission=str(uuid.uuid4()), tasks=[{"type": "echo", "run_at": "2030-01-01"}])
    client("cancel", refs=[one])


def test_rules_by_the_class_of_the_error(client: Raw) -> None:
    lines = client.run(
        {"type": "fail", "retry_on": {"RuntimeError": 4}, "retries": 0, "data": {"until": 3}},
        {"type": "fail", "retry_on": {"RuntimeError": 0}, "retries": 9},
    )
    assert [(line["state"], line["attempts"]) for line in lines] == [("succeeded", 3), ("failed", 1)]


def test_a_resource_is_used_by_one_at_a_time(client: Raw) -> None:
    one = {"type": "nap", "data": {"seconds": 0.3}, "resources": {"gpu": 1}}
    reply = client.submit(one, one)
    client.wait(f"f{reply['flow']}", any=True)
    first, second = (client.show(reply["first"] + place) for place in (0, 1))
    assert second["started"] is None or second["started"] >= first["finished"] - 0.05
    client.wait(f"f{reply['flow']}")
    with pytest.raises(Refusal, match="at most the 1") as refused:
        client.submit({"type": "echo", "resources": {"gpu": 2}})
    assert refused.value.path == "tasks[0].resources.gpu"
    with pytest.raises(Refusal, match="whole number"):
        client.submit({"type": "echo", "resources": {"gpu": 1.5}})


def test_explain_says_what_stands_in_the_way(client: Raw) -> None:
    reply = client.submit(
        {"id": "a", "type": "sleep", "data": {"seconds": 300}},
        {"id": "b", "type": "echo", "deps": ["a"]},
        {"type": "echo", "delay": 300},
        {"type": "echo", "queue": "night"},
    )
    flow, first = f"f{reply['flow']}", reply["first"]
    client("pause", queue="night")
    assert codes(client, f"{flow}/a")[0] in ("running", "starting")
    blocked = client("explain", ref=f"{flow}/b")["reasons"][0]
    assert (blocked["code"], blocked["waiting"]) == ("blocked", 1)
    assert [(dep["id"], dep["on"]) for dep in blocked["deps"]] == [("a", "success")]
    assert codes(client, first + 2) == ["scheduled"]
    held = client.submit({"type": "echo", "queue": "night"})["first"]
    assert codes(client, held) == ["queue_paused"]
    client("resume", queue="night")
    client("queues", queue="night", limit=0)
    held = client.submit({"type": "echo", "queue": "night"}, {"type": "echo", "queue": "night"})["first"]
    assert codes(client, held) == ["queue_limit"]
    assert codes(client, held + 1) == ["queue_limit", "behind"]
    client("hold", refs=[held])
    assert codes(client, held) == ["held"]
    client("queues", queue="night", limit=None)
    client("release", refs=[held])
    client.wait(f"{held}-{held + 1}")
    assert codes(client, held) == ["ended"]
    client("cancel", refs=[flow])
    client.wait(flow)


def test_very_many_by_number(client: Raw) -> None:
    reply = client.submit(*({"type": "echo", "delay": 300} for _ in range(2_000)))
    first, last = reply["first"], reply["first"] + 1_999
    assert client("hold", refs=[f"{first}-{last}"]) == {"held": 2_000, "unchanged": 0}
    assert code(client, "cancel", refs=[f"{first}-{last}", "f999999"]) == "not_found"
    assert client("cancel", refs=[f"{first}-99999999"]) == {"cancelled": 2_000, "requested": 0, "unchanged": 0}


def test_hold_edit_release_delete(client: Raw) -> None:
    reply = client.submit(*({"type": "echo", "delay": 300} for _ in range(3)), name="steered")
    flow = f"f{reply['flow']}"
    assert client("hold", refs=[flow]) == {"held": 3, "unchanged": 0}
    (why,) = client("explain", ref=reply["first"])["reasons"]
    assert why["message"] == f"its flow is held; the whole flow is held: `release {flow}` lets it go on"
    assert client("edit", refs=[flow], priority=9) == {"edited": 3, "unchanged": 0}
    assert client("release", refs=[flow]) == {"released": 3, "unchanged": 0}
    assert states(client, reply["flow"]) == ["scheduled"] * 3
    assert code(client, "delete", refs=[flow]) == "conflict"
    client("cancel", refs=[flow])
    assert client("delete", refs=[flow]) == {"deleted": 3}
    assert code(client, "status", refs=[flow]) == "not_found"


def test_a_stream_runs_while_it_is_being_sent(client: Raw) -> None:
    submission = str(uuid.uuid4())
    body: dict[str, Any] = {"submission": submission, "stream": True, "complete": False}
    first = client("submit", **body, tasks=[{"type": "echo", "id": "a"}])
    client.wait(first["first"])
    assert client("submission", submission=submission) == {"flow": first["flow"], "state": "open", "received": 1}
    poll = client("wait", refs=[f"f{first['flow']}"], timeout=0)
    assert (poll["done"], poll["ended"], poll["total"]) == (False, 1, 1), "more may come"
    with pytest.raises(Refusal) as refused:
        client("submit", **body, offset=1, tasks=[{"type": "echo", "deps": ["nobody"]}])
    assert refused.value.code == "unknown_dependency"
    last = client("submit", **{**body, "complete": True}, offset=1, tasks=[{"type": "echo", "deps": ["a"]}])
    assert last["received"] == 2
    client.wait(f"f{first['flow']}")


def test_a_flow_by_its_critical_path(client: Raw) -> None:
    client("queues", queue="one", limit=1)
    tasks = [
        {"id": "short", "type": "echo", "queue": "one", "estimate": 1.0},
        {"id": "root", "type": "echo", "queue": "one", "estimate": 1.0},
        {"id": "leaf", "type": "echo", "queue": "one", "estimate": 9.0, "deps": ["root"]},
    ]
    client("pause", queue="one")
    reply = client.submit(*tasks, order="critical-path")
    client("resume", queue="one")
    client.wait(f"f{reply['flow']}")
    started = sorted((client.show(f"f{reply['flow']}/{task['id']}")["started"], task["id"]) for task in tasks)
    assert [name for _, name in started] == ["root", "leaf", "short"]


def test_a_flow_in_chunks_by_its_critical_path(client: Raw, daemon: Daemon, tmp_path: Path) -> None:
    ctl = Ctl(daemon.endpoint, tmp_path)
    chains, length = 500, 10  # of each chain the tasks take longer than those of the one before
    lines = []
    for step in range(length):
        for chain in range(chains):
            task = {"id": f"c{chain}-{step}", "type": "echo", "queue": "long", "estimate": 1.0 + chain}
            lines.append(json.dumps({**task, "deps": [f"c{chain}-{step - 1}"] if step else []}))
    (tmp_path / "flow.jsonl").write_text("\n".join(lines))
    client("queues", queue="long", limit=1)
    events = daemon.subscriber("task.running")
    number = ctl.json("submit", "-f", "flow.jsonl", "--order", "critical-path")["flow"]
    # With one at a time the chain that is the longest from here on goes on.
    left = dict.fromkeys(range(chains), length)
    for _ in range(300):
        chain, step = map(int, events.next()["id"][1:].split("-"))
        assert step == length - left[chain]
        assert (1 + chain) * left[chain] == max((1 + other) * rest for other, rest in left.items())
        left[chain] -= 1
    client("cancel", refs=[f"f{number}"])
    (flow,) = client("status", refs=[f"f{number}"])["items"]
    assert (flow["total"], flow["ordering"]) == (chains * length, False)
    assert client.show(f"f{number}/c7-0")["estimate"] == 8.0


def test_a_type_that_is_gone_is_held_until_it_is_there_again() -> None:
    with running(**with_handlers("odd_tasks", workers=1)) as daemon:
        client = daemon.client()
        client("pause")
        body = {"submission": str(uuid.uuid4()), "tasks": [{"type": "nap"}]}
        stored = client("submit", **body)
        waiting = stored["first"]
        daemon.terminate()
        daemon.wait_end()
        daemon.config.write_text("workers = 1\n")
        daemon.start()
        client = daemon.client()
        events = daemon.subscriber("task.held")
        client("resume")
        events.next()
        (reason,) = client("explain", ref=waiting)["reasons"]
        assert (reason["code"], reason["type"]) == ("missing_handler", "nap")
        assert client("submit", **body) == {**stored, "repeated": True}, "also if it would be refused today"
        assert code(client, "submit", **{**body, "tasks": [{"type": "nap", "priority": 1}]}) == "unknown_type"
        assert code(client, "submit", **{**body, "submission": str(uuid.uuid4())}) == "unknown_type"
        daemon.terminate()
        daemon.wait_end()
        write_settings(daemon.config, {"drain_timeout": 0.5, **with_handlers("odd_tasks", workers=1)})
        daemon.start()
        client = daemon.client()
        client.wait(waiting)
        assert client.show(waiting)["state"] == "succeeded"


def test_very_many_dependencies_are_taken_apart_without_a_hole(client: Raw) -> None:
    submission, count = str(uuid.uuid4()), 6_000
    body: dict[str, Any] = {"submission": submission, "complete": False}
    for offset in range(0, count, 2_000):
        tasks = [{"type": "echo", "id": f"p{number}"} for number in range(offset, offset + 2_000)]
        client.send("submit", **body, tasks=tasks, offset=offset)  # not waited for: the last one needs them all
    last = {"type": "echo", "id": "last", "template": False, "deps": [f"p{number}" for number in range(count)]}
    reply = client("submit", submission=submission, tasks=[last], offset=count)
    client.wait(f"f{reply['flow']}", patience=60)
    shown = client.show(f"f{reply['flow']}/last")
    assert (shown["state"], len(shown["deps"])) == ("succeeded", count)
    with pytest.raises(Refusal) as refused:
        client.submit(*({"type": "echo", "deps": [f"q{number}", "nobody"]} for number in range(1_500)))
    assert refused.value.code == "unknown_dependency"


def test_tasks_by_their_metadata(client: Raw) -> None:
    tasks = [{"type": "echo", "metadata": {"customer": name, "run": run}} for name in ("acme", "bob") for run in (1, 2)]
    reply = client.submit(*tasks, {"type": "echo", "data": {"customer": "acme"}})

    def found(metadata: dict[str, Any], **how: Any) -> list[int]:
        return [task["number"] - reply["first"] for task in client("list", metadata=metadata, **how)["tasks"]]

    assert found({"customer": "acme"}) == [0, 1]
    assert found({"customer": "acme", "run": 2.0}, flow=reply["flow"]) == [1]
    assert found({"run": 1}, after=reply["first"]) == [2]
    assert found({"run": "1"}) == []
    page = client("list", metadata={"run": 2}, limit=1)
    assert page["next"] == page["tasks"][0]["number"] == reply["first"] + 1
    with pytest.raises(Refusal) as refused:
        client("list", metadata={str(key): 1 for key in range(11)})
    assert (refused.value.code, refused.value.path) == ("invalid_value", "metadata")


def test_an_id_comes_back_as_it_was_given(client: Raw) -> None:
    start = client("subscribe")["next"]
    lines = client.run(
        {"id": 7, "type": "echo", "data": {"x": 1}},
        {"id": "07", "type": "echo", "deps": ["7"], "data": {"x": '{{ deps["7"].x }}'}},
        {"id": "8", "type": "who", "deps": [7]},
        {"id": 9, "type": "who", "deps": [{"id": "8"}]},
    )
    ids = [7, "07", "8", 9]
    assert [line["id"] for line in lines] == ids
    assert lines[1]["result"] == {"x": "1"}
    assert [line["result"] for line in lines[2:]] == [{"id": "8", "inputs": ["7"]}, {"id": 9, "inputs": ["8"]}]
    flow, first = lines[0]["flow"], lines[0]["number"]
    assert [task["id"] for task in client("list", flow=flow)["tasks"]] == ids
    assert [task["id"] for task in client("status", refs=[f"{first}-{first + 3}"])["items"]] == ids
    assert [dep["id"] for number in (1, 3) for dep in client.show(first + number)["deps"]] == [7, "8"]
    assert client.show(f"f{flow}/7")["id"] == 7
    events = client("events", **{"from": start}, topics=["task.succeeded"])["events"]
    named = {event["task"] - first: event["id"] for event in events if event["flow"] == flow}
    assert [named[place] for place in range(4)] == ids
    with pytest.raises(Refusal) as refused:
        client.submit({"id": 1, "type": "echo"}, {"id": "1", "type": "echo"})
    assert refused.value.code == "duplicate_id"
