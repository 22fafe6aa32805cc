"""`workers`, `profile`, `enable`, `disable`, `config`, `reload`, `drain` while tasks run: at once, kept, undone, and no attempt lost."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers.ctl import Ctl
from helpers.daemon import Daemon, running, with_handlers, write_settings
from helpers.raw import Raw


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Programs of `gated` end when this file is there."""
    return tmp_path / "gate"


def gated(gate: Path, **fields: Any) -> dict[str, Any]:
    script = f"while [ ! -e {gate} ]; do sleep 0.02; done"
    return {"type": "command", "data": {"args": ["sh", "-c", script]}, **fields}


def polite(**fields: Any) -> dict[str, Any]:
    return {"type": "polite", "data": {"seconds": 600}, **fields}


def nap(seconds: float = 0.0, **fields: Any) -> dict[str, Any]:
    return {"type": "nap", "data": {"seconds": seconds}, **fields}


def wait_running(client: Raw, daemon: Daemon, count: int) -> None:
    subscriber = daemon.subscriber("task.running")
    while client("status")["tasks"]["running"] < count:
        subscriber.next()


def setting(ctl: Ctl, key: str) -> tuple[Any, str]:
    (row,) = ctl.lines("config", "get", key)
    return row["value"], row["origin"]


def test_no_change_costs_a_running_attempt(gate: Path, tmp_path: Path) -> None:
    with running(**with_handlers("odd_tasks", workers=3, batch_size=4)) as daemon:
        client, ctl = daemon.client(), Ctl(daemon.endpoint, tmp_path)
        programs = client.submit(*(gated(gate) for _ in range(6)))
        calls = client.submit(*(polite() for _ in range(12)))
        wait_running(client, daemon, 3 + 12)
        first = {worker["pid"] for worker in client("workers")["workers"]}

        assert ctl.json("workers", "1")["count"] == 1
        states = [worker["state"] for worker in client("workers")["workers"] if worker["kind"] == "blocking"]
        assert states.count("stopping") == 2, "those that are too many finish what they have"
        ctl("profile", "maximum")
        ctl("disable")
        ctl("config", "set", "batch_size=2", "memory_mb=300")
        ctl("enable")
        assert ctl.json("workers", "2")["count"] == 2
        assert ctl.json("workers", "restart")["restarting"] >= 2
        ctl("reload")
        ctl("config", "reset", "--all")
        assert client("status")["tasks"]["running"] >= 3 + 12

        gate.touch()
        client.wait(f"f{programs['flow']}")
        client("cancel", refs=[f"f{calls['flow']}"])
        client.wait(f"f{calls['flow']}")
        for flow, outcome in ((programs, "done"), (calls, "cancelled")):
            for number in range(flow["first"], flow["first"] + flow["count"]):
                assert [attempt["outcome"] for attempt in client.show(number)["attempts_log"]] == [outcome]
        subscriber = daemon.subscriber("worker")
        while not first.isdisjoint({worker["pid"] for worker in client("workers")["workers"]}):
            subscriber.next()  # all have been replaced once nothing keeps them


def test_what_was_acknowledged_is_kept_over_kill_and_undone_by_reset(tmp_path: Path) -> None:
    with running(profile="conservative", workers=1) as daemon:
        ctl = Ctl(daemon.endpoint, tmp_path)
        before = ctl.lines("config")
        changes = (
            ("workers", "3"),
            ("profile", "performance"),
            ("disable",),
            ("config", "set", "retries=7", 'resources=["gpu=2"]', "default_model=gemini-x"),
        )
        for change in changes:
            ctl(*change)
            daemon.kill()  # right after the answer
            daemon.restart()
        kept = {
            "workers": 3,
            "profile": "performance",
            "enabled": False,
            "retries": 7,
            "resources": ["gpu=2"],
            "default_model": "gemini-x",
        }
        assert {row["key"]: row["value"] for row in ctl.lines("config") if row["origin"] == "run time"} == kept
        # What a profile gives is in force, too, and what is stronger than it is told.
        assert setting(ctl, "task_timeout") == (180.0, "profile")
        shown = ctl.json("profile", "maximum")
        assert (shown["profile"], shown["origin"]) == ("maximum", "run time")
        assert shown["shadowed"] == [{"key": "workers", "value": 3, "origin": "run time"}]
        assert ctl.json("workers")["origin"] == "run time"
        assert not ctl.json("status")["enabled"]

        ctl("config", "reset", "workers", "retries")
        assert setting(ctl, "workers") == (1, str(daemon.config))
        assert setting(ctl, "retries") == (3, "default")
        ctl("config", "reset", "--all")
        assert ctl.lines("config") == before
        daemon.kill()
        daemon.restart()
        assert ctl.lines("config") == before


def test_disabled_means_one_task_at_a_time_in_order(tmp_path: Path) -> None:
    with running(**with_handlers("odd_tasks", workers=2, batch_size=5)) as daemon:
        client, ctl = daemon.client(), Ctl(daemon.endpoint, tmp_path)
        ctl("disable")
        assert ctl.json("workers", "3")["count"] == 3, "remembered meanwhile"
        kinds = [nap(0.02), {"type": "sleep", "data": {"seconds": 0.02}}]
        flow = client.submit(*(kinds[index % 2] for index in range(8)))
        client.wait(f"f{flow['flow']}")
        times = [client.show(flow["first"] + index) for index in range(8)]
        for one, next_one in pairwise(times):
            assert one["finished"] <= next_one["started"]
        ctl("enable")
        programs = client.submit(*(gated(tmp_path / "gate") for _ in range(3)))
        wait_running(client, daemon, 3)
        (tmp_path / "gate").touch()
        client.wait(f"f{programs['flow']}")


def test_drain_starts_nothing_until_it_is_off(gate: Path, tmp_path: Path) -> None:
    with running(**with_handlers("odd_tasks", workers=2)) as daemon:
        client, ctl = daemon.client(), Ctl(daemon.endpoint, tmp_path)
        runs = client.submit(gated(gate))["first"]
        wait_running(client, daemon, 1)
        assert ctl.json("drain") == {"drain": True, "running": 1}
        waits = client.submit(nap())["first"]
        gate.touch()
        client.wait(runs)  # what runs ends, and that starts nothing
        assert client.show(waits)["state"] == "ready"
        assert client("explain", ref=waits)["reasons"][0]["code"] == "drain"
        assert "drain" in ctl("explain", str(waits)).stdout
        assert "starts nothing until `drain --off`" in ctl("status").stdout
        assert ctl.json("drain", "--off")["drain"] is False
        client.wait(waits)
        ctl("drain")
        daemon.kill()
        daemon.restart()
        assert ctl.json("status")["drain"] is False, "a start is a start"
        client = daemon.client()
        client.run(nap())


def test_reload_says_what_came_of_it(tmp_path: Path) -> None:
    with running(workers=1) as daemon:
        client, ctl = daemon.client(), Ctl(daemon.endpoint, tmp_path)
        client.run({"type": "echo"})
        there = len(client("workers")["workers"])
        assert ctl.json("reload") == {"changed": [], "pending": [], "restarting": there}
        ctl("config", "set", "retries=5")
        write_settings(daemon.config, {"workers": 2, "grace": 3, "ageing": 60, "retries": 9, "keep_days": 1})
        answer = ctl.json("reload")
        assert (answer["changed"], answer["pending"]) == (
            ["workers", "keep_days", "grace", "drain_timeout"],
            ["ageing"],
        )
        assert setting(ctl, "retries") == (5, "run time")
        assert setting(ctl, "ageing") == (0.0, "default"), "what is in force is shown"
        assert ctl.json("workers")["count"] == 2

        before = ctl.lines("config")
        write_settings(daemon.config, {"workers": 0, "colour": "blue"})
        refused = ctl("reload", status=4).stderr
        for word in ("nothing was changed", str(daemon.config), "workers must be from 1 to 1024", "colour"):
            assert word in refused
        assert ctl.lines("config") == before
        client.run({"type": "echo"})


def test_the_guide_s_words(tmp_path: Path) -> None:
    guide = {
        "PARALLEL_EXECUTION_ENABLED": "false",
        "PARALLEL_MAX_WORKERS": "2",
        "PARALLEL_TASK_TIMEOUT": "90000",
        "PARALLEL_RETRY_ATTEMPTS": "1",
        "PARALLEL_MONITORING": "false",
        "PARALLEL_BATCH_SIZE": "7",
        "PARALLEL_MEMORY_LIMIT": "700",
    }
    with running(env=guide) as daemon:
        ctl = Ctl(daemon.endpoint, tmp_path)
        found = {row["origin"]: row["value"] for row in ctl.lines("config") if row["origin"].startswith("PARALLEL_")}
        assert found == dict(zip(guide, [False, 2, 90.0, 1, False, 7, 700], strict=True))
        assert ctl.json("parallel", "status")["enabled"] is False
        ctl("parallel", "enable")
        assert ctl.json("parallel", "workers", "3")["slots"] == {"blocking": 3, "coroutine": 21}
        shadowed = ctl.json("parallel", "profile", "maximum")["shadowed"]
        assert {row["key"]: row["origin"] for row in shadowed} == {
            "workers": "run time",
            "task_timeout": "PARALLEL_TASK_TIMEOUT",
            "memory_mb": "PARALLEL_MEMORY_LIMIT",
            "batch_size": "PARALLEL_BATCH_SIZE",
        }
        ctl("parallel", "disable")
        assert ctl.json("parallel", "status")["enabled"] is False
        for follow in (("parallel", "monitor", "--json"), ("stats", "-f")):
            assert "monitoring" in ctl(*follow, status=1).stderr, "no figures come, and it says why"
        assert "disabled" in ctl("parallel", "benchmark", status=1).stderr
        (task,) = daemon.client().run({"type": "command", "data": {"args": ["sh", "-c", "exit 1"]}, "backoff": 0.0})
        assert task["attempts"] == 2
