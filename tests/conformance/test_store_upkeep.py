"""What every store does to stay small, sound and written: `store.base.Upkeep`.

Does not cover: when it is called (tests/unit/engine/test_upkeep.py), a disk that fails (tests/fault/test_store_faults.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from helpers.turns import NOW, make_flow, make_turn

from gemflowd.core.turn import Turn
from gemflowd.model.errors import StoreError
from gemflowd.model.event import Event, EventBatch
from gemflowd.model.states import FlowState
from gemflowd.store.parts import upkeep
from gemflowd.store.sqlite import SqliteStore
from gemflowd.store.tables import Oldest

Kind = Callable[..., Any]
STORES: dict[str, Kind] = {"sqlite": SqliteStore}


@pytest.fixture(params=STORES.values(), ids=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    opened = request.param(tmp_path / "gemflow.db", ballast=1 << 20)
    yield opened
    opened.close()


def write(store: Any, fill: Callable[[Turn], object]) -> None:
    turn = make_turn()
    store.begin()
    fill(turn)
    store.write(turn)
    store.commit()


def flows(store: Any, **ends: tuple[FlowState, float, bool]) -> None:
    """Flows by number: state, when it was touched, whether it is hidden."""

    def fill(turn: Turn) -> None:
        turn.new_flows = [
            make_flow(int(name[1:]), state=state, touched=touched, deleted=deleted, finished=touched)
            for name, (state, touched, deleted) in ends.items()
        ]

    write(store, fill)


def events(store: Any, *times: float, each: int = 2) -> None:
    """A turn's events at each of these times."""
    first, ordinals = 1, {}
    for at in times:
        batch = EventBatch(first, at, [Event("task.ready", {"task": first})] * each, ordinals)
        store.begin()
        store.conclude(make_turn(), batch, {})
        store.commit()
        first, ordinals = first + each, batch.ordinals_after


def ended(store: Any, until: float = NOW, after: tuple[float, int] = (-1.0, 0), limit: int = 10) -> list[int]:
    return [number for _, number in store.upkeep.ended_flows(after, until, limit)]


def test_flows_that_ended_come_oldest_first(store: Any) -> None:
    flows(
        store,
        f1=(FlowState.SUCCEEDED, 30.0, False),
        f2=(FlowState.FAILED, 10.0, False),
        f3=(FlowState.CANCELLED, 20.0, False),
        f4=(FlowState.ACTIVE, 5.0, False),
        f5=(FlowState.OPEN, 5.0, False),
        f6=(FlowState.SUCCEEDED, 5.0, True),
        f7=(FlowState.SUCCEEDED, 20.0, False),
    )
    assert ended(store) == [2, 3, 7, 1]
    assert ended(store, until=20.0) == [2, 3, 7]
    assert ended(store, limit=2) == [2, 3]
    assert ended(store, after=(20.0, 3)) == [7, 1]
    assert store.upkeep.oldest() == Oldest(10.0, None, None)


def test_nothing_is_old_in_an_empty_store(store: Any) -> None:
    assert store.upkeep.oldest() == Oldest(None, None, None)
    assert ended(store) == []
    assert not store.upkeep.trim_events(NOW, 10)
    assert not store.upkeep.trim_keys(NOW, 10)
    assert not store.upkeep.tidy(0.01)
    store.upkeep.checkpoint()
    store.upkeep.settle()


def test_events_are_trimmed_from_the_oldest_on(store: Any) -> None:
    events(store, 10.0, 20.0, 30.0, 40.0)
    assert store.upkeep.oldest().events == 10.0
    assert not store.upkeep.trim_events(10.0, 10)  # before, not at
    assert store.upkeep.oldest().events == 10.0
    assert not store.upkeep.trim_events(25.0, 10)
    assert store.upkeep.oldest().events == 30.0
    assert not store.upkeep.trim_events(1e9, 10)
    assert store.upkeep.oldest().events is None  # the last turn's may not go
    snapshot = store.load()
    assert snapshot.next_event == 9
    assert snapshot.ordinals == {"task.ready": 8}


def test_some_at_a_time(store: Any) -> None:
    events(store, *[float(n) for n in range(10)])
    steps = 0
    while store.upkeep.trim_events(1e9, 2):
        steps += 1
        assert steps < 10
    assert steps == 4
    assert store.upkeep.oldest().events is None


def test_a_clock_that_was_set_back_does_not_open_gaps(store: Any) -> None:
    events(store, 50.0, 10.0, 60.0)
    assert not store.upkeep.trim_events(20.0, 10)
    assert store.upkeep.oldest().events == 50.0


def test_large_events_are_bounded_by_bytes(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_EVENT_BYTES", 100)
    events(store, *[float(n) for n in range(20)], each=5)
    assert store.upkeep.trim_events(1e9, 100)
    assert 0.0 < store.upkeep.oldest().events < 18.0


def test_keys_whose_time_is_over(store: Any) -> None:
    store.begin()
    for number, until in ((1, 10.0), (2, 20.0), (3, None), (4, 30.0)):
        store.keys.take(f"k{number}", number, until)
    assert store.upkeep.oldest().key == 10.0
    assert store.upkeep.trim_keys(20.0, 1)
    assert store.upkeep.trim_keys(20.0, 1)
    assert not store.upkeep.trim_keys(20.0, 1)
    store.commit()
    assert store.upkeep.oldest().key == 30.0
    assert store.keys.holder("k3", 1e9) == 3


def test_ballast(store: Any, tmp_path: Path) -> None:
    file = tmp_path / "ballast"
    assert store.upkeep.ballast_bytes == 1 << 20
    assert store.upkeep.keep_ballast()
    assert store.upkeep.ballast_bytes == 0
    assert file.stat().st_blocks * 512 >= 1 << 20
    assert store.upkeep.keep_ballast()
    assert store.upkeep.drop_ballast()
    assert not file.exists()
    assert not store.upkeep.drop_ballast()
    assert store.upkeep.ballast_bytes == 1 << 20
    file.mkdir()  # it can't be made
    assert not store.upkeep.keep_ballast()
    assert store.upkeep.ballast_bytes == 1 << 20
    file.rmdir()
    assert store.upkeep.keep_ballast()


# Of SQLite's alone


def log_of(tmp_path: Path) -> Path:
    return tmp_path / "gemflow.db-wal"


def test_a_checkpoint_is_made_when_the_log_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOG_FRAMES", 30)
    monkeypatch.setattr(upkeep, "_MORE_FRAMES", 10)
    store = SqliteStore(tmp_path / "gemflow.db")
    reader = apsw.Connection(str(tmp_path / "gemflow.db"))
    reader.execute("PRAGMA query_only = 1")
    sizes = []
    for number in range(1, 160):
        flows(store, **{f"f{number}": (FlowState.ACTIVE, 1.0, False)})
        store.upkeep.checkpoint()
        sizes.append(log_of(tmp_path).stat().st_size)
        if number == 20:
            list(reader.execute("BEGIN").execute("SELECT * FROM flow"))  # it holds the log
        if number == 100:
            reader.execute("ROLLBACK")
    assert sizes[15] < 90 * 4200  # the schema itself is some 75 pages
    assert sizes[99] > sizes[15]
    assert sizes[-1] == sizes[101], "it goes on growing"
    reader.close()
    store.close()


@pytest.mark.parametrize("broken", [False, True], ids=["well", "on a disk that fails"])
def test_what_was_held_back_for_long_is_carried_over_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    for name, frames in (("LOG_FRAMES", 30), ("_MORE_FRAMES", 10), ("_MANY_FRAMES", 60)):
        monkeypatch.setattr(upkeep, name, frames)
    store = SqliteStore(tmp_path / "gemflow.db")
    reader = apsw.Connection(str(tmp_path / "gemflow.db"))
    flows(store, f1=(FlowState.ACTIVE, 1.0, False))
    list(reader.execute("BEGIN").execute("SELECT * FROM flow"))
    for number in range(2, 100):
        flows(store, **{f"f{number}": (FlowState.ACTIVE, 1.0, False)})
    reader.close()
    held = log_of(tmp_path).stat().st_size
    if broken:
        monkeypatch.setattr(upkeep._Aside, "run", lambda self: setattr(self, "failure", apsw.IOError("the disk fails")))
    store.upkeep.checkpoint()
    aside = store.upkeep._aside
    assert aside is not None
    aside.join()
    if broken:
        with pytest.raises(StoreError, match="the disk fails"):
            store.upkeep.checkpoint()
        store.close()
        return
    assert aside.carried > 60
    for number in range(100, 120):
        store.upkeep.checkpoint()
        flows(store, **{f"f{number}": (FlowState.ACTIVE, 1.0, False)})
    assert store.upkeep._aside is None
    assert log_of(tmp_path).stat().st_size == held, "the log did not begin anew"
    store.close()


def test_the_log_is_cut_when_it_is_huge_and_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOG_BYTES", 100_000)
    store = SqliteStore(tmp_path / "gemflow.db")
    for number in range(1, 40):
        flows(store, **{f"f{number}": (FlowState.ACTIVE, 1.0, False)})
    assert log_of(tmp_path).stat().st_size > 100_000
    reader = apsw.Connection(str(tmp_path / "gemflow.db"))
    list(reader.execute("BEGIN").execute("SELECT * FROM flow"))
    flows(store, f50=(FlowState.ACTIVE, 1.0, False))
    assert not store.upkeep.tidy(0.01)  # nobody is waited for
    assert log_of(tmp_path).stat().st_size > 100_000
    reader.close()
    flows(store, f51=(FlowState.ACTIVE, 1.0, False))
    assert not store.upkeep.tidy(0.01)
    assert log_of(tmp_path).stat().st_size == 0
    store.close()


def test_nothing_is_left_in_the_log_at_the_end(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "gemflow.db")
    flows(store, f1=(FlowState.ACTIVE, 1.0, False))
    store.upkeep.settle()
    store.close()
    assert not log_of(tmp_path).exists() or log_of(tmp_path).stat().st_size == 0


def test_a_step_of_giving_room_back_is_short(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "gemflow.db")
    db = store._db
    db.execute("CREATE TABLE big (value BLOB)")
    with db:
        db.executemany("INSERT INTO big VALUES (zeroblob(?))", [(4000,)] * 20_000)
    db.execute("DROP TABLE big")
    before = db.execute("PRAGMA freelist_count").get
    assert before > 10_000
    assert store.upkeep.tidy(0.0)
    assert store.upkeep.tidy(0.01)
    after = db.execute("PRAGMA freelist_count").get
    assert 0 < before - after < before
    steps = 0
    while store.upkeep.tidy(0.01):
        steps += 1
    assert steps > 1
    assert db.execute("PRAGMA freelist_count").get <= 256
    store.close()
