"""The monitor's state and picture."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from gemflowctl.monitor.feed import Feed
from gemflowctl.monitor.view import render, sparkline


def stats(**changes: Any) -> dict[str, Any]:
    worker = {"kind": "blocking", "rss_bytes": 7_500_000, "done": 3, "started": 1.0}
    return {
        "at": 1.0,
        "uptime": 65.0,
        "active": 1,
        "queued": 1200,
        "waiting": 3,
        "completed": 4,
        "failed": 5,
        "cancelled": 0,
        "skipped": 0,
        "average_seconds": 0.25,
        "throughput": 8.5,
        "workers": [
            {**worker, "name": "b1", "pid": 11, "state": "idle", "active": 0, "tasks": []},
            {**worker, "name": "b2", "pid": 12, "state": "busy", "active": 1, "tasks": [42]},
        ],
        **changes,
    }


def picture(feed: Feed, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(render(feed, width, height))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Feed:
    monkeypatch.setenv("TZ", "UTC")
    return Feed("ipc:///run/x.sock", now=0.0)


def test_the_picture(feed: Feed) -> None:
    feed.figures(stats(throughput=0.0), 0.0)
    feed.figures(stats(), 1.0)
    feed.message(
        "task.failed",
        {
            "epoch": 1,
            "topic_first": 0,
            "events": [
                {"seq": 1, "topic": "task.failed", "task": 42, "flow": 7, "id": "a", "type": "echo", "reason": "no\x1b"}
            ],
        },
        1.0,
    )
    feed.message(
        "worker",
        {
            "epoch": 1,
            "topic_first": 0,
            "events": [{"seq": 2, "topic": "worker", "worker": "b1", "state": "idle", "pid": 11}],
        },
        1.0,
    )
    assert picture(feed) == [
        "gemflow ● live  up 1m05s  ipc:///run/x.sock                              q quits",
        "",
        "active   queued   waiting   completed   failed   average   throughput",
        "     1    1,200         3           4        5    250 ms        8.5/s",
        "",
        "tasks/s ▁█ max 8.5",
        "active  ██ max 1",
        "",
        "worker   kind       pid   memory   state   done   task",
        "────────────────────────────────────────────────────────────────────────────────",
        "b2       blocking    12   7.5 MB   busy       3   42",
        "b1       blocking    11   7.5 MB   idle       3   -",
        "",
        "recent events",
        "worker b1 idle",
        "task 42 f7/a failed  echo  no\\x1b",
    ]


def test_before_the_first_figures(feed: Feed) -> None:
    assert "completed" in "\n".join(picture(feed))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (20, 5), (200, 60)])
def test_it_never_outgrows_a_usual_screen(feed: Feed, width: int, height: int) -> None:
    one = stats()["workers"][0]
    feed.figures(
        stats(workers=[{**one, "name": f"w{number}", "tasks": list(range(200))} for number in range(100)]), 0.0
    )
    for seq in range(200):
        feed.message(
            "worker",
            {
                "epoch": 1,
                "topic_first": seq,
                "events": [{"seq": seq, "topic": "worker", "worker": "w" * 300, "state": "idle"}],
            },
            0.0,
        )
    lines = picture(feed, width, height)
    assert len(lines) <= max(height, 15)
    assert width < 80 or any("more" in line for line in lines)


def test_staleness(feed: Feed) -> None:
    feed.figures(stats(), 10.0)
    assert not feed.stale(12.0)
    assert feed.stale(13.5)
    feed.looked(there=False)
    assert "disconnected" in picture(feed)[0]
    feed.looked(there=True)
    assert "no figures" in picture(feed)[0]
    feed.message("stats", {"epoch": 2, "events": [stats()]}, 20.0)
    assert "live" in picture(feed)[0]
    assert not feed.stale(21.0)


def test_dropped_events_are_counted_until_a_restart(feed: Feed) -> None:
    for first in (5, 6, 10):
        feed.message("worker", {"epoch": 1, "topic_first": first, "events": [{"topic": "worker"}]}, 0.0)
    assert feed.lost == 3
    feed.message("worker", {"epoch": 2, "topic_first": 0, "events": [{"topic": "worker"}]}, 0.0)
    assert feed.lost == 0


def test_sparkline() -> None:
    assert sparkline([], 5) == ""
    assert sparkline([0, 0], 5) == "▁▁"
    assert sparkline([0, 1, 2, 4, 8], 3) == "▃▅█"
