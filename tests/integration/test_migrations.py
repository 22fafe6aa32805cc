"""Databases of earlier versions: opened with everything in them, never without a backup; newer ones are refused and left alone.

`tests/frozen` holds a real one of every schema.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgpack
import pytest
from helpers.rig import OnDisk, Rig
from helpers.store_contents import Contents
from helpers.tasks import new

from gemflowd.model.attempt import Kind
from gemflowd.model.errors import StoreError
from gemflowd.model.refs import TaskRange
from gemflowd.model.states import FlowState, State
from gemflowd.store import files, migrations
from gemflowd.store.checks import problems
from gemflowd.store.migrations import SCHEMA_VERSION
from gemflowd.store.reader import Questions
from gemflowd.store.sqlite import SqliteStore

BODY = msgpack.packb({"data": {}})
FROZEN = Path(__file__).parents[1] / "frozen"


def frozen(version: int, tmp_path: Path) -> Path:
    path = tmp_path / "gemflow.db"
    shutil.copyfile(FROZEN / f"v{version}.db", path)
    return path


def old_rows(path: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return list(db.execute(f"SELECT * FROM {table} ORDER BY 1, 2"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def engine_on(path: Path) -> Rig:
    """An engine on it, a minute after the database was made."""
    made = max(row[5] for row in old_rows(path, "flow"))
    return Rig(OnDisk(path), now=made + 60.0)


def test_there_is_one_of_every_schema() -> None:
    assert sorted(path.name for path in FROZEN.glob("v*.db")) == [f"v{n}.db" for n in range(1, SCHEMA_VERSION + 1)]
    for version in range(1, SCHEMA_VERSION + 1):
        with closing(apsw.Connection(str(FROZEN / f"v{version}.db"), flags=apsw.SQLITE_OPEN_READONLY)) as db:
            assert db.execute("PRAGMA user_version").get == version
            assert db.execute("PRAGMA integrity_check").get == "ok"


def test_the_newest_one_has_the_current_schema(tmp_path: Path) -> None:
    """It is made anew after each change of a schema that is not released: tests/frozen/README.md."""
    SqliteStore(tmp_path / "new.db").close()

    def shape(path: Path) -> dict[str, str]:
        with closing(apsw.Connection(str(path))) as db:
            return dict(db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))

    copy = frozen(SCHEMA_VERSION, tmp_path)
    assert shape(copy) == shape(tmp_path / "new.db")


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_what_was_in_it_is_in_it(version: int, tmp_path: Path) -> None:
    path = frozen(version, tmp_path)
    tasks, flows = old_rows(path, "task"), old_rows(path, "flow")
    results, attempts, bodies = (
        dict(old_rows(path, "result")),
        old_rows(path, "attempt"),
        dict(old_rows(path, "body")),
    )
    rig = engine_on(path)
    found: Contents = rig.check()
    assert set(found.tasks) == {row[0] for row in tasks}
    for number, flow, name, kind, state, priority, *_ in tasks:
        task = found.tasks[number]
        assert (task.flow, task.id, task.type, task.priority) == (flow, name, kind, priority)
        assert task.state is (State.READY if state == State.RUNNING else State(state))
        assert task.urgency == priority
        assert task.size == len(bodies[number])
    assert {number: flow.submission for number, flow in found.flows.items()} == {row[0]: row[1] for row in flows}
    assert found.results == results
    assert found.bodies == bodies
    assert set(found.attempts) >= {(row[0], row[1]) for row in attempts}
    left = sum(len(bodies[number]) for number, task in found.tasks.items() if not task.state.terminal)
    assert rig.engine._memory.queued_bytes == left
    assert rig.engine.opened.result().settings
    rig.store.close()
    with closing(apsw.Connection(str(path))) as db:
        assert problems(db) == []


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_it_goes_on(version: int, tmp_path: Path) -> None:
    path = frozen(version, tmp_path)
    rig = engine_on(path)
    before = {number: flow.state for number, flow in rig.contents().flows.items()}
    ended = [number for number, state in before.items() if FlowState(state).terminal]
    rig.slots(4)
    rig.slots(1, Kind.COROUTINE, 100)
    for number, state in before.items():
        if state == FlowState.OPEN and not rig.contents().flows[number].streaming:
            flow = rig.contents().flows[number]
            answer = rig.submit([new("last", body=BODY)], flow.submission, offset=flow.received)
            assert answer.body["received"] == flow.received + 1
    rig.clock.now += 20 * 365 * 86_400.0  # all that has a time
    rig.run()
    for _ in range(1_000):
        running = rig.running()
        if not running:
            break
        rig.end(running[0], payload=b"\xc0")
    found = rig.check()
    again = rig.retry(*[f"f{number}" for number in ended])
    assert again.code is None
    assert rig.submit([new("new", body=BODY)], "of today").body["first"] == max(found.tasks) + 1
    rig.check()
    questions = Questions(path)
    assert questions.timed(lambda q: q.totals())["tasks"]["succeeded"] > 50
    for number in found.tasks:
        questions.timed(lambda q, number=number: q.show(TaskRange(number, number)))
    questions.close()
    rig.crash()
    rig.check()
    rig.store.close()


# The backup


def test_a_database_that_is_migrated_is_kept_as_it_was(tmp_path: Path) -> None:
    path = frozen(1, tmp_path)
    rows = old_rows(path, "task")
    SqliteStore(path).close()
    backup = tmp_path / "gemflow.db.schema-1-backup"
    assert backup.stat().st_mode & 0o777 == 0o600
    assert old_rows(backup, "task") == rows
    with closing(apsw.Connection(str(backup), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        assert db.execute("PRAGMA user_version").get == 1
        assert db.execute("PRAGMA integrity_check").get == "ok"
    SqliteStore(path).close()
    assert [p.name for p in tmp_path.glob("*backup*")] == [backup.name]  # it is made once


def test_what_was_in_the_log_only_is_in_the_backup(tmp_path: Path) -> None:
    path = frozen(1, tmp_path)
    db = apsw.Connection(str(path))
    db.execute("PRAGMA journal_mode = WAL")
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.execute("UPDATE task SET reason = 'in the log' WHERE number = 1")
    db.close()
    assert path.with_name("gemflow.db-wal").stat().st_size
    SqliteStore(path).close()
    reasons = {row[0]: row[25] for row in old_rows(tmp_path / "gemflow.db.schema-1-backup", "task")}
    assert reasons[1] == "in the log"


def test_a_backup_is_never_overwritten(tmp_path: Path) -> None:
    backup = tmp_path / "gemflow.db.schema-1-backup"
    backup.write_text("an earlier one")
    SqliteStore(frozen(1, tmp_path)).close()
    assert backup.read_text() == "an earlier one"
    assert old_rows(tmp_path / "gemflow.db.schema-1-backup-2", "task")


def test_without_a_backup_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = frozen(1, tmp_path)
    before = digest(path)

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_room)
    with pytest.raises(
        StoreError, match=r"backup .*schema-1-backup.* can't be made.*No space left.*nothing was changed"
    ):
        SqliteStore(path)
    assert digest(path) == before
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(("-wal", "-shm"))) == ["gemflow.db"]
    monkeypatch.undo()
    SqliteStore(path).close()


def test_what_a_killed_start_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".gemflow-copy-abc.part").write_text("half")
    SqliteStore(frozen(1, tmp_path)).close()
    assert not list(tmp_path.glob("*.part"))


def test_a_new_database_needs_no_backup(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "gemflow.db").close()
    assert list(tmp_path.glob("*backup*")) == []


def test_a_step_that_fails_leaves_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = frozen(1, tmp_path)
    real = migrations.files

    class Broken:
        def __init__(self, package: str | None) -> None:
            self._package = package

        def joinpath(self, name: str) -> Any:
            self._name = name
            return self

        def read_text(self, encoding: str) -> str:
            return real(self._package).joinpath(self._name).read_text(encoding) + "SELECT 1 FROM nowhere;"

    monkeypatch.setattr(migrations, "files", Broken)
    with pytest.raises(StoreError, match="nowhere"):
        SqliteStore(path)
    monkeypatch.undo()
    with closing(apsw.Connection(str(path))) as db:
        assert db.execute("PRAGMA user_version").get == 1
        assert db.execute("SELECT count(*) FROM task").get == 62
    SqliteStore(path).close()


# Newer ones


@pytest.mark.parametrize("log", [False, True], ids=["alone", "with a log"])
def test_a_newer_schema_is_refused_and_not_touched(log: bool, tmp_path: Path) -> None:
    path = frozen(SCHEMA_VERSION, tmp_path)
    db = apsw.Connection(str(path))
    db.execute("PRAGMA user_version = 99")
    if log:
        db.execute("PRAGMA journal_mode = WAL")
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.execute("UPDATE task SET reason = 'in the log'")
    db.close()
    names = ["gemflow.db", "gemflow.db-wal"] if log else ["gemflow.db"]
    before = {name: digest(tmp_path / name) for name in names}
    with pytest.raises(StoreError, match=r"schema version 99.*newer version"):
        SqliteStore(path)
    assert {name: digest(tmp_path / name) for name in names} == before
    assert list(tmp_path.glob("*backup*")) == []
