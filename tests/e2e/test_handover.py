"""How tasks get to the workers of a real daemon: several very short ones at a time, and nobody waits behind a long one for that."""

from __future__ import annotations

from typing import Any

from helpers.daemon import running, with_handlers
from helpers.raw import Raw


def whoami(seconds: float = 0.0, **fields: Any) -> dict[str, Any]:
    return {"type": "whoami", "data": {"seconds": seconds}, **fields}


def finished(client: Raw, flow: int) -> dict[int, float]:
    """When each task of a flow ended, by number."""
    found: dict[int, float] = {}
    after: int | None = 0
    while after is not None:
        page = client("list", flow=flow, after=after, limit=1000)
        found |= {task["number"]: task["finished"] for task in page["tasks"]}
        after = page["next"]
    return found


def test_a_long_task_holds_no_short_one_while_another_worker_is_free() -> None:
    """All are of one type, which has been short so far: what is handed over together is a guess, and may be wrong."""
    with running(workers=2, **with_handlers("greedy_tasks")) as daemon:
        client = daemon.client()
        client.run(*[whoami()] * 500)  # known to be short
        reply = client.submit(*[whoami(1.5) if index == 3 else whoami() for index in range(300)])
        client.wait(f"f{reply['flow']}")
        ends = finished(client, reply["flow"])
        long = ends.pop(reply["first"] + 3)
        assert len(ends) == 299
        assert max(ends.values()) < long, "a short one ended after the long one"
        assert {task["attempts"] for task in client("list", flow=reply["flow"], limit=1000)["tasks"]} == {1}


def test_priorities_are_not_overtaken_by_what_is_handed_over_together() -> None:
    with running(workers=2, **with_handlers("greedy_tasks")) as daemon:
        client = daemon.client()
        client.run(*[whoami()] * 500)
        begin = client("subscribe")["next"]
        client("pause", queue="default")
        low = client.submit(*[whoami(priority=1) for _ in range(400)])["flow"]
        high = client.submit(*[whoami(priority=9) for _ in range(100)])["flow"]
        client("resume", queue="default")
        client.wait(f"f{low}", f"f{high}")
        events = client("events", **{"from": begin}, topics=["task.running"], limit=5000)["events"]
        assert [event["flow"] for event in events] == [high] * 100 + [low] * 400


def test_neither_kind_of_worker_keeps_the_other_waiting() -> None:
    with running(workers=1, batch_size=4, **with_handlers("greedy_tasks")) as daemon:
        client = daemon.client()
        blocking = client.submit(whoami(1000.0))["first"]
        client.log_line(blocking)
        calls = [{"type": "awhoami", "data": {"seconds": 0.0}}] * 50
        assert all(line["ok"] for line in client.run(*calls)), "coroutines wait for no blocking task"
        client("cancel", refs=[blocking])
        client.wait(blocking)
        coroutines = client.submit(*[{"type": "awhoami", "data": {"seconds": 1000.0}}] * 8)
        client.log_line(coroutines["first"])
        assert all(line["ok"] for line in client.run(*[whoami()] * 50)), "blocking tasks wait for no coroutine"
        client("cancel", refs=[f"f{coroutines['flow']}"])
        client.wait(f"f{coroutines['flow']}")
