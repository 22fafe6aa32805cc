"""Copies of a database that is being written, and the check of one."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import time
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from helpers.rig import OnDisk, Rig
from helpers.tasks import many

from gemflowd.model.errors import Refused
from gemflowd.store import copies as module
from gemflowd.store import files
from gemflowd.store.checks import problems
from gemflowd.store.copies import Copies
from gemflowd.store.files import Stopped, copy_database
from gemflowd.store.sqlite import open_connection

PATIENCE = 30.0


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(OnDisk(tmp_path / "gemflow.db"))
    rig.slots()
    rig.submit(many(500, body=b"x" * 4000), "first")
    return rig


def found_in(path: Path) -> list[str]:
    with closing(open_connection(path, read_only=True)) as db:
        return problems(db)


def test_a_snapshot_is_a_database_of_its_own(rig: Rig, tmp_path: Path) -> None:
    copies = Copies(tmp_path / "gemflow.db")
    target = tmp_path / "copy.db"
    answer = copies.snapshot(str(target)).result(PATIENCE)
    assert answer["path"] == str(target)
    assert answer["bytes"] == target.stat().st_size
    assert answer["seconds"] > 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert found_in(target) == []
    rig.submit(many(3), "later")
    again = Rig(OnDisk(target))
    assert {flow.submission for flow in again.check().flows.values()} == {"first"}
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    copies.close()


def test_what_a_killed_copy_left_goes_and_what_is_being_made_stays(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for folder in (tmp_path, tmp_path / "elsewhere"):
        (folder / ".gemflow-copy-left.part").write_text("half")
    with (tmp_path / "elsewhere" / ".gemflow-copy-other.part").open("w") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        copies = Copies(tmp_path / "gemflow.db")
        assert not list(tmp_path.glob(".gemflow-copy-*"))
        copies.snapshot(str(tmp_path / "elsewhere" / "copy.db")).result(PATIENCE)
        assert sorted(p.name for p in (tmp_path / "elsewhere").iterdir()) == [".gemflow-copy-other.part", "copy.db"]
    copies.close()


def test_it_is_of_one_moment_while_the_queue_is_written(rig: Rig, tmp_path: Path) -> None:
    copies = Copies(tmp_path / "gemflow.db")
    for round_ in range(5):
        target = tmp_path / f"copy{round_}.db"
        future = copies.snapshot(str(target))
        number = 0
        while not future.done():
            rig.submit(many(5, body=b"y" * 1000), f"r{round_}-{number}")
            rig.end(rig.running()[0])
            number += 1
        future.result(PATIENCE)
        assert found_in(target) == []
    copies.close()
    rig.check()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("copy.db", "invalid_value"),
        ("/nowhere/at/all/copy.db", "invalid_value"),
        ("/", "invalid_value"),
        ("/tmp/a\0b", "invalid_value"),
    ],
)
def test_paths_that_can_not_be_taken(rig: Rig, tmp_path: Path, path: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        Copies(tmp_path / "gemflow.db").snapshot(path)
    assert (refused.value.code, refused.value.path) == (code, "path")


def test_what_exists_is_never_overwritten(rig: Rig, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("mine")
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "not there")
    for path in (target, link):
        with pytest.raises(Refused) as refused:
            Copies(tmp_path / "gemflow.db").snapshot(str(path))
        assert (refused.value.code, refused.value.path) == ("conflict", "path")
    assert target.read_text() == "mine"


def test_also_when_it_comes_meanwhile(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "copy.db"
    fsync = os.fsync

    def come(descriptor: int) -> None:
        target.write_text("mine")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", come)
    with pytest.raises(Refused, match="exists already"):
        Copies(tmp_path / "gemflow.db").snapshot(str(target)).result(PATIENCE)
    assert target.read_text() == "mine"
    assert not list(tmp_path.glob(".gemflow*"))


@pytest.mark.parametrize("call", ["fsync", "fdatasync", "link"])
def test_one_that_fails_leaves_nothing(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(files, "_SYNC_EVERY", 4096)
    before = sorted(tmp_path.iterdir())

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, call, no_room)
    if call == "link":  # then it is renamed
        Copies(tmp_path / "gemflow.db").snapshot(str(tmp_path / "copy.db")).result(PATIENCE)
        assert found_in(tmp_path / "copy.db") == []
        return
    with pytest.raises(Refused) as refused:
        Copies(tmp_path / "gemflow.db").snapshot(str(tmp_path / "copy.db")).result(PATIENCE)
    assert (refused.value.code, refused.value.path) == ("disk_full", "path")
    assert sorted(tmp_path.iterdir()) == before


def test_one_that_is_stopped_leaves_nothing(rig: Rig, tmp_path: Path) -> None:
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(1)
        return len(asked) > 1

    with closing(open_connection(tmp_path / "gemflow.db", read_only=True)) as db, pytest.raises(Stopped):
        copy_database(db, tmp_path / "copy.db", stopped)
    assert not (tmp_path / "copy.db").exists()
    assert not list(tmp_path.glob(".gemflow*"))


def test_the_end_of_the_daemon_stops_it(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = Copies(tmp_path / "gemflow.db")
    begun, go = threading.Event(), threading.Event()

    def slow(db: apsw.Connection) -> list[str]:
        begun.set()
        assert go.wait(PATIENCE)
        return problems(db)

    monkeypatch.setattr(module, "problems", slow)
    future = copies.check()
    assert begun.wait(PATIENCE)
    with pytest.raises(Refused, match="another"):
        copies.snapshot(str(tmp_path / "copy.db"))
    copies._stopping.set()
    go.set()
    with pytest.raises(Refused) as refused:
        future.result(PATIENCE)
    assert refused.value.code == "draining"
    copies.close()


def test_a_snapshot_holds_nobody_up(tmp_path: Path) -> None:
    """No turn waits for 100 ms while a database of 100 MB is copied."""
    rig = Rig(OnDisk(tmp_path / "gemflow.db"))
    rig.slots()
    for number in range(20):
        rig.submit(many(500, body=b"x" * 10_000), f"s{number}")
    rig.engine._upkeep.tidy(rig.store)
    copies = Copies(tmp_path / "gemflow.db")
    worst = []
    for round_ in range(4):  # the machine may be busy with something else in one of them
        turns: list[float] = []
        future = copies.snapshot(str(tmp_path / f"copy{round_}.db"))
        while not future.done():
            before = time.perf_counter()
            rig.end(rig.running()[0])
            turns.append(time.perf_counter() - before)
        assert future.result(PATIENCE)["bytes"] > 100_000_000
        (tmp_path / f"copy{round_}.db").unlink()
        assert len(turns) > 10
        worst.append(max(turns))
        if worst[-1] < 0.1:
            break
    copies.close()
    assert min(worst) < 0.1, f"turns took up to {worst} s"


# Checks


def test_a_sound_one(rig: Rig, tmp_path: Path) -> None:
    assert Copies(tmp_path / "gemflow.db").check().result(PATIENCE).items() >= {"ok": True, "problems": []}.items()


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE counter SET count = count + 1 WHERE state = 3", "queue default counts 501 tasks as ready, has 500"),
        ("INSERT INTO counter VALUES ('none', 6, 3)", "queue none counts 3 tasks as succeeded, has 0"),
        ("UPDATE flow SET failed = 2", "flow f1 counts 2 tasks as failed, has 0"),
        ("DELETE FROM body WHERE task = 7", "task 7 has no body"),
        ("INSERT INTO result VALUES (9, x'c0')", "there is a result of task 9, which has not succeeded"),
        ("UPDATE task SET flow = 99 WHERE number = 3", "task 3 has no flow"),
        ("DELETE FROM event WHERE first = (SELECT first FROM event ORDER BY first LIMIT 1, 1)", "are missing"),
    ],
)
def test_what_does_not_agree(rig: Rig, tmp_path: Path, sql: str, said: str) -> None:
    rig.submit(many(1), "another")
    rig.store.close()
    with closing(open_connection(tmp_path / "gemflow.db")) as db:
        db.execute(sql)
    answer = Copies(tmp_path / "gemflow.db").check().result(PATIENCE)
    assert not answer["ok"]
    assert any(said in problem for problem in answer["problems"]), answer
    assert len(answer["problems"]) <= 100


def test_a_damaged_one(rig: Rig, tmp_path: Path) -> None:
    rig.store.close()
    path = tmp_path / "gemflow.db"
    with closing(open_connection(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        for page in range(20, 60):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
    answer = Copies(path).check().result(PATIENCE)
    assert not answer["ok"]
    assert 0 < len(answer["problems"]) <= 100
