"""Keeping house, by the real daemon: what is old goes, copies and checks while it works, limits that refuse."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from helpers.daemon import Daemon, running
from helpers.raw import Raw, Refusal

FROZEN = Path(__file__).parents[1] / "frozen"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(workers=1) as daemon:
        yield daemon


def echo(**fields: Any) -> dict[str, Any]:
    return {"type": "echo", **fields}


# Retention


def test_old_flows_go_by_themselves() -> None:
    with running(workers=1, keep_days=0) as daemon:
        client, gone = daemon.client(), daemon.subscriber("flow.deleted")
        flows = []
        for _ in range(3):
            client.run(echo(), echo())
            flows.append(client("list", limit=1000)["tasks"][-1]["flow"])
        waiting = client.submit(echo(delay=3600.0))["flow"]
        client("config", set={"keep_days": 1e-9})
        for flow in flows:
            assert gone.next()["flow"] == flow
        for flow in flows:
            with pytest.raises(Refusal, match="there is no flow"):
                client("show", ref=f"f{flow}")
        assert client("status")["flows"] == {"active": 1}
        assert [task["flow"] for task in client("list")["tasks"]] == [waiting]
        assert client("db_check")["problems"] == []


def test_old_events_go_and_what_was_missed_is_told() -> None:
    with running(workers=1, keep_events_hours=0) as daemon:
        client = daemon.client()
        for _ in range(5):
            client.run(echo(), echo())
        every = client("events", **{"from": 1}, limit=5000)
        assert every["first_kept"] == 1
        assert "missed" not in every
        end = every["next"]
        client("config", set={"keep_events_hours": 1e-9})
        client.run(echo())
        kept = client("events", **{"from": 1})["first_kept"]
        assert 1 < kept <= end  # those of the last turn stay
        answer = client("events", **{"from": 1}, topics=["task.succeeded"])
        assert answer["first_kept"] == kept
        assert answer["missed"]["first"] == 1
        assert answer["missed"]["last"] == kept - 1
        assert set(answer["missed"]["topics"]) == {"task.succeeded"}
        got = sum(event["topic"] == "task.succeeded" for event in answer["events"])
        assert answer["missed"]["topics"]["task.succeeded"] + got == client("subscribe")["topics"]["task.succeeded"]


# Copies


def test_a_snapshot_while_it_works(client: Raw, daemon: Daemon) -> None:
    target = daemon.directory / "copy.db"
    client.run(*[echo(data={"x": "x" * 1000}) for _ in range(100)])
    number = client.send("db_snapshot", path=str(target))
    client.run(echo())  # it works meanwhile
    answer = client.reply_to(number)
    assert answer["path"] == str(target)
    assert answer["bytes"] == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    db = apsw.Connection(str(target))
    assert db.execute("PRAGMA integrity_check").get == "ok"
    db.close()
    with pytest.raises(Refusal) as again:
        client("db_snapshot", path=str(target))
    assert (again.value.code, again.value.path) == ("conflict", "path")


def test_a_daemon_on_a_snapshot(client: Raw, daemon: Daemon) -> None:
    flow = client.submit(echo(id="kept"))["flow"]
    client.wait(f"f{flow}")
    other = Daemon(workers=1)
    other.state.mkdir(mode=0o700)
    client("db_snapshot", path=str(other.state / "gemflow.db"))
    try:
        other.start()
        assert other.client().results(f"f{flow}")[0]["id"] == "kept"
    finally:
        other.close()


@pytest.mark.parametrize("path", ["copy.db", "/nowhere/at/all/copy.db", "", "/"])
def test_paths_that_are_refused(client: Raw, path: str) -> None:
    with pytest.raises(Refusal) as refused:
        client("db_snapshot", path=path)
    assert (refused.value.code, refused.value.path) == ("invalid_value", "path")


def test_what_a_request_must_have(client: Raw) -> None:
    for body, code, path in (({}, "missing_field", "path"), ({"path": 1}, "wrong_type", "path")):
        with pytest.raises(Refusal) as refused:
            client("db_snapshot", **body)
        assert (refused.value.code, refused.value.path) == (code, path)
    with pytest.raises(Refusal) as refused:
        client("db_check", deep=True)
    assert refused.value.code == "unknown_field"


def test_a_check(client: Raw) -> None:
    client.run(echo())
    answer = client("db_check")
    assert answer["ok"] is True
    assert answer["problems"] == []
    assert answer["seconds"] >= 0


def test_the_log_does_not_grow_without_end() -> None:
    with running(workers=1) as daemon:
        client = daemon.client()
        for _ in range(12):
            client.submit(*[echo(data={"x": "x" * 10_000}, delay=3600.0) for _ in range(400)])
        log = daemon.state / "gemflow.db-wal"
        assert log.stat().st_size < 40 * 1024 * 1024
        assert (daemon.state / "gemflow.db").stat().st_size > 30 * 1024 * 1024
        daemon.stop()
        assert not log.exists() or log.stat().st_size == 0  # all of it is in the one file


# Limits


def test_the_queue_takes_so_many_bytes() -> None:
    with running(workers=1, max_queued_bytes=10_000) as daemon:
        client = daemon.client()
        full = client.submit(echo(data={"x": "x" * 9_000}, delay=3600.0))
        with pytest.raises(Refusal) as refused:
            client.submit(echo(data={"x": "x" * 9_000}))
        assert refused.value.code == "queue_full"
        client("config", set={"max_queued_bytes": 20_000})
        client.run(echo(data={"x": "x" * 9_000}))
        client("config", reset=["max_queued_bytes"])
        client("config", set={"max_queued_bytes": 10_000})
        client("cancel", refs=[f"f{full['flow']}"])
        client.run(echo(data={"x": "x" * 9_000}))


def test_a_disk_with_too_little_room() -> None:
    with running(workers=1, min_free_mb=1 << 30) as daemon:
        client = daemon.client()
        with pytest.raises(Refusal, match="min_free_mb") as refused:
            client.submit(echo())
        assert refused.value.code == "disk_full"
        assert client("status")["state"] == "running"


def test_room_is_kept_beside_the_database(daemon: Daemon, client: Raw) -> None:
    client.run(echo())
    ballast = daemon.state / "ballast"
    assert ballast.stat().st_blocks * 512 >= 8 * 1024 * 1024
    assert stat.S_IMODE(ballast.stat().st_mode) == 0o600


# Versions


def test_a_database_of_version_1() -> None:
    daemon = Daemon(workers=2)
    daemon.state.mkdir(mode=0o700)
    (daemon.state / "gemflow.db").write_bytes((FROZEN / "v1.db").read_bytes())
    try:
        daemon.start()
        client = daemon.client()
        assert client.results("f1")[0]["id"] == "a"
        client.run(echo())
        assert client("db_check")["problems"] == []
        assert stat.S_IMODE((daemon.state / "gemflow.db.schema-1-backup").stat().st_mode) == 0o600
    finally:
        daemon.close()


def test_a_database_of_the_future() -> None:
    daemon = Daemon(workers=1)
    daemon.state.mkdir(mode=0o700)
    path = daemon.state / "gemflow.db"
    path.write_bytes((FROZEN / "v1.db").read_bytes())
    db = apsw.Connection(str(path))
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    try:
        daemon.launch()
        assert daemon.wait_end() == 1
        assert "schema version 99" in daemon.log_text()
        assert path.read_bytes() == before
    finally:
        daemon.close()


def test_a_kill_in_a_snapshot_leaves_the_queue_whole() -> None:
    with running(workers=1) as daemon:
        client = daemon.client()
        for _ in range(4):
            client.submit(*[echo(data={"x": "x" * 10_000}, delay=3600.0) for _ in range(500)])
        client.send("db_snapshot", path=str(daemon.directory / "copy.db"))
        client("ping")
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.kill()
        daemon.restart()
        assert daemon.client()("db_check")["problems"] == []
        assert daemon.client()("status")["tasks"]["scheduled"] == 2000
