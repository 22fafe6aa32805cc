"""What a reviewer broke once: each of these hung, looped or hurt others before it was mended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.daemon import Daemon, running, with_handlers
from helpers.raw import Raw


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    settings = with_handlers(
        "odd_tasks", workers=2, batch_size=10, grace=0.5, crash_limit=2, backoff=0.01, max_inputs_mb=1
    )
    with running(**settings) as daemon:
        yield daemon


def test_many_requests_in_flight_are_all_answered(client: Raw) -> None:
    """A pipelining client that keeps its credit used up; nobody else wakes the daemon."""
    total, ahead = 6_000, 60
    sent = [client.send("ping") for _ in range(ahead)]
    for index in range(total):
        client.reply_to(sent[index])
        if index + ahead < total:
            sent.append(client.send("ping"))
        elif index + 1 == len(sent):
            break


def test_retry_of_a_large_flow_that_fails_again_comes_to_an_end(client: Raw) -> None:
    flow = f"f{client.submit(*[{'type': 'refuse', 'retries': 0}] * 2_000)['flow']}"
    client.wait(flow)
    assert client("retry", refs=[flow])["retried"] == 2_000
    client.wait(flow)
    attempts = {task["attempts"] for task in client("list", flow=int(flow[1:]), limit=1000)["tasks"]}
    assert attempts == {2}


def test_a_child_that_inherited_the_channel_does_not_keep_its_worker(client: Raw) -> None:
    line = client.run({"type": "orphan", "data": {"seconds": 20}})[0]
    assert (line["state"], line["attempts"]) == ("quarantined", 2)


@pytest.mark.parametrize("how", ["unreadable", "own", "long", "usage", "nan", "deep", "keys"])
def test_an_odd_end_is_an_outcome_and_spares_the_neighbours(client: Raw, how: str) -> None:
    neighbour = {"type": "sleep", "id": "n", "data": {"seconds": 0.2}, "retries": 0}
    lines = {
        line["id"]: line
        for line in client.run(neighbour, {"type": "odd-end", "id": "o", "data": {"how": how}, "retries": 0})
    }
    assert lines["n"]["ok"]
    assert lines["n"]["attempts"] == 1
    assert lines["o"]["state"] == "failed"
    assert len(lines["o"]["error"]["message"]) <= 8_100
    if how in ("nan", "deep", "keys"):
        assert lines["o"]["error"]["code"] == "bad_result"


@pytest.mark.parametrize(
    ("how", "usage"),
    [("used-list", None), ("used-keys", {"prompt_tokens": 7, "cost": None}), ("used-much", None)],
)
def test_an_odd_usage_costs_neither_the_result_nor_who_asks_for_it(
    client: Raw, how: str, usage: dict[str, object] | None
) -> None:
    (line,) = client.run({"type": "odd-end", "data": {"how": how}, "retries": 0})
    assert line["ok"] == (how != "used-much")
    assert line.get("usage") == usage
    (attempt,) = client.show(line["number"])["attempts_log"]
    assert attempt["usage"] == usage
    log = client("logs", ref=str(line["number"]))
    assert any("left out" in entry["text"] for entry in log["lines"]), log


def test_an_odd_note_is_left_out(client: Raw) -> None:
    (line,) = client.run({"type": "odd-end", "data": {"how": "note"}, "retries": 0})
    assert line["ok"], line
    errors = [attempt["error"] for attempt in client.show(line["number"])["attempts_log"]]
    assert [error["message"] for error in errors[:2]] == ["once more"] * 2
    assert not any("instead" in error for error in errors[:2])


def test_a_limit_that_is_none_is_no_way(client: Raw) -> None:
    (line,) = client.run({"type": "odd-end", "data": {"how": "bucket"}, "retries": 0})
    assert line["error"]["code"] == "bad_bucket"
    assert client.show(line["number"])["state"] == "failed"


def test_many_dependents_of_a_result_that_is_too_large_all_end(client: Raw) -> None:
    parent = {"type": "echo", "id": "p", "data": {"x": "y" * 1_500_000}}
    children = [{"type": "echo", "deps": ["p"]} for _ in range(600)]
    lines = client.run(parent, *children)
    assert {line["error"]["code"] for line in lines[1:]} == {"inputs_too_large"}


def test_large_inputs_are_handed_over_one_at_a_time(client: Raw) -> None:
    client.run(*[{"type": "echo"}] * 500)  # the type is known as a very short one
    parent = {"type": "echo", "id": "p", "data": {"x": "y" * 900_000}}
    children = [{"type": "echo", "deps": ["p"]} for _ in range(60)]
    assert all(line["ok"] for line in client.run(parent, *children))


def test_large_bodies_of_short_tasks(client: Raw) -> None:
    client.run(*[{"type": "echo"}] * 500)
    flow = [{"type": "echo", "data": {"x": "y" * 1_000_000}} for _ in range(14)]
    assert all(line["ok"] for line in client.run(*flow))


def test_chunks_back_to_back(client: Raw) -> None:
    submission = "7b1f9f36-26dd-4c2c-9df7-0d7f4f1f1c11"
    sent = [
        client.send(
            "submit",
            submission=submission,
            offset=n * 1000,
            complete=n == 5,
            tasks=[{"type": "echo", "data": {"n": n}}] * 1000,
        )
        for n in range(6)
    ]
    replies = [client.reply_to(number) for number in sent]
    assert [reply["received"] for reply in replies] == [1000 * (n + 1) for n in range(6)]


def test_a_deep_reference_and_a_rude_value_are_refused(client: Raw) -> None:
    for ref in ("9" * 5_000, "٣"):
        client.send("show", ref=ref)
        assert client.receive()["error"]["code"] == "invalid_value"
    client.send("submit", submission="7b1f9f36-26dd-4c2c-9df7-0d7f4f1f1c12", tasks=[{"type": "echo"}], weight=1e-310)
    assert client.receive()["error"]["path"] == "weight"


def test_metadata_that_is_too_deep_or_holds_odd_keys_is_refused(client: Raw) -> None:
    deep: object = 1
    for _ in range(900):
        deep = {"a": deep}
    for metadata, code in ((deep, "too_deep"), ({"a": {b"x": 1}}, "wrong_type")):
        client.send(
            "submit", submission="7b1f9f36-26dd-4c2c-9df7-0d7f4f1f1c13", tasks=[{"type": "echo", "metadata": metadata}]
        )
        assert client.receive()["error"]["code"] == code
