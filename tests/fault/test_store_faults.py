"""What the disk does to us: it fails at any call, it is cut off from power at any moment, it is full.

A real engine on a real database, through a way to the disk that fails on purpose. `GEMFLOW_FAULT_SEED=n` repeats a run,
`GEMFLOW_FAULT_LONG=1` takes longer histories and more cuts.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from helpers.daemon import Daemon
from helpers.faulty_disk import FaultyDisk, Image, faulty_disks
from helpers.raw import PATIENCE, Refusal
from helpers.rig import OnDisk, Rig
from helpers.tasks import Answer, dep, new, submission

from gemflowd.engine import engine
from gemflowd.model.attempt import Outcome
from gemflowd.model.effects import Effects
from gemflowd.model.errors import StoreError
from gemflowd.model.rules import Rules
from gemflowd.model.states import State
from gemflowd.store.checks import problems
from gemflowd.store.parts import upkeep
from gemflowd.store.sqlite import SqliteStore

#: An error on a way on which SQLite asks for none.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LONG = bool(os.environ.get("GEMFLOW_FAULT_LONG"))
SEED = int(os.environ.get("GEMFLOW_FAULT_SEED") or random.SystemRandom().randrange(10**6))
#: Of the history of which every call fails once.
STEPS = 5
CUTS = 40 if LONG else 4


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Checkpoints after few pages, no pause while the disk is full, and the disks that fail."""
    monkeypatch.setattr(upkeep, "LOG_FRAMES", 40)
    monkeypatch.setattr(upkeep, "_MORE_FRAMES", 20)
    monkeypatch.setattr(engine, "_FULL_PAUSE", 0.0)
    with faulty_disks():
        yield


class Faulty:
    """Where a store is that is opened through a disk that fails."""

    def __init__(self, path: Path, disk: FaultyDisk) -> None:
        self._path, self._disk = path, disk
        self.store: SqliteStore | None = None

    def open(self) -> SqliteStore:
        self.store = SqliteStore(self._path, vfs=self._disk.name, ballast=4096)
        return self.store

    def close(self) -> None:
        if self.store is not None:
            try:
                self.store.close()
            except StoreError:
                pass


class History:
    """Submissions and outcomes by a seed, and what was acknowledged of them."""

    def __init__(self, path: Path, disk: FaultyDisk, seed: int, steps: int) -> None:
        self._rng = random.Random(seed)
        self._steps = steps
        self.backing: Any = Faulty(path, disk)
        self.stored: dict[str, int] = {}  # submission -> tasks
        self.ended: dict[int, State] = {}
        self.refused: list[str] = []
        self.stopped: StoreError | None = None

    def run(self) -> History:
        try:
            self._live()
        except StoreError as error:
            self.stopped = error
        finally:
            self.backing.close()
        return self

    def _live(self) -> None:
        rules = Rules(retries=1, backoff=0.0, keep_events=30.0, keep_flows=60.0)
        rig = Rig(self.backing, rules, forgets=True, free_bytes=lambda: 1 << 40)
        rig.listeners.append(self._note)
        rig.slots(3)
        for number in range(self._steps):
            self._step(rig, number)
            rig.clock.now += self._rng.choice((0.0, 1.0, 10.0))
        rig.engine._upkeep.tidy(rig.store)
        rig.store.upkeep.settle()

    def _step(self, rig: Rig, number: int) -> None:
        rng = self._rng
        name = f"s{number}"
        tasks = [new("a", body=rng.randbytes(rng.choice((10, 3000)))), new("b", dep(0)), new("c", dep(0))]
        answer = Answer()
        rig.post(submission(answer, name, tasks[: rng.randint(1, 3)]))
        for order in rig.executor.handed():
            if rng.random() < 0.7:
                rig.executor.end(order, rng.choice((Outcome.DONE, Outcome.DONE, Outcome.ERROR)))
        rig.run()
        if answer.given and answer.code is None:
            self.stored[name] = answer.body["count"]
        elif answer.given:
            self.refused.append(answer.code or "")

    def _note(self, effects: Effects) -> None:
        self.ended.update((ended.task, ended.state) for ended in effects.ended)

    def acknowledged(self) -> tuple[dict[str, int], dict[int, State]]:
        return dict(self.stored), dict(self.ended)


def look(path: Path, stored: dict[str, int], ended: dict[int, State]) -> None:
    """The database opens again with all that was acknowledged, and everything holds that must, also when it goes on."""
    SqliteStore(path).close()  # it may not even have been made
    with closing(apsw.Connection(str(path))) as db:
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # the log is for the store to find
        assert problems(db) == []
    rig = Rig(OnDisk(path), Rules(retries=1, backoff=0.0, keep_flows=0.0, keep_events=1e9), forgets=True)
    found = rig.check()
    flows = {flow.submission: flow for flow in found.flows.values()}
    for name, count in stored.items():
        if name not in flows:  # it was old, and was deleted
            assert any(topic == "flow.deleted" for row in found.events for topic, _ in row.events), f"{name} is lost"
            continue
        its = [task for task in found.tasks.values() if task.flow == flows[name].number]
        assert len(its) == count or flows[name].deleted, f"{name} had {count} tasks, {len(its)} are left"
    for number, state in ended.items():
        if number in found.tasks:
            assert found.tasks[number].state is state, f"task {number} had {state.word}"
        else:
            assert number < rig.engine._memory.next_task
    rig.slots(3)
    assert rig.submit([new("after")], "after").body["count"] == 1
    while rig.running():
        rig.end(rig.running()[0])
    rig.check()
    rig.store.close()


def calls(tmp_path: Path, seed: int, steps: int) -> dict[str, int]:
    """How often a history on a disk that never fails does what."""
    disk = FaultyDisk()
    history = History(tmp_path / "clean.db", disk, seed, steps).run()
    assert history.stopped is None
    assert len(history.stored) == steps
    look(tmp_path / "clean.db", *history.acknowledged())
    (tmp_path / "ballast").unlink(missing_ok=True)
    return dict(disk.calls)


def fail_once(directory: Path, op: str, number: int, error: type[Exception], seed: int, steps: int) -> History:
    """A history in which one call fails; then everything must be as it should."""
    directory.mkdir()
    disk = FaultyDisk()
    disk.fail = lambda called, n: error if called == op and n == number else None
    history = History(directory / "gemflow.db", disk, seed, steps).run()
    assert disk.failed, f"{op} {number} was never called"
    if history.stopped is not None:
        assert len(str(history.stopped)) > 20, "it doesn't say why"
    look(directory / "gemflow.db", *history.acknowledged())
    shutil.rmtree(directory)
    return history


@pytest.mark.parametrize(
    ("op", "error"),
    [
        ("xWrite", apsw.FullError),
        ("xWrite", apsw.IOError),
        ("xSync", apsw.IOError),
        ("xTruncate", apsw.IOError),
        ("xOpen", apsw.CantOpenError),
        ("xDelete", apsw.IOError),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_every_call_fails_once(tmp_path: Path, op: str, error: type[Exception]) -> None:
    total = calls(tmp_path, 1, STEPS)[op]
    assert total > (20 if op in ("xWrite", "xSync") else 0)
    outcomes = []
    for number in range(total):
        history = fail_once(tmp_path / f"{number}", op, number, error, 1, STEPS)
        outcomes.append(history)
        if op == "xSync" and error is apsw.IOError:
            assert history.stopped is not None, f"xSync {number} failed and nobody cared"
        if op == "xWrite" and error is apsw.IOError:
            assert history.stopped is not None, f"xWrite {number} failed and nobody cared"
    if (op, error) == ("xWrite", apsw.FullError):
        assert any(history.refused for history in outcomes), "a full disk never refused a submission"
        assert any(history.stopped is None for history in outcomes), "a full disk always stopped it"


@pytest.mark.skipif(not LONG, reason="takes minutes: GEMFLOW_FAULT_LONG=1")
def test_random_calls_of_long_histories_fail(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    print("seed", SEED)
    for round_ in range(40):
        seed = rng.randrange(10**6)
        totals = calls(tmp_path, seed, 40)
        (tmp_path / "clean.db").unlink()
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"clean.db{suffix}").unlink(missing_ok=True)
        for attempt in range(20):
            op = rng.choice(("xWrite", "xWrite", "xSync", "xTruncate"))
            if (
                op in totals
            ):  # a sync never says that the disk is full: SQLite has one error for all that can go wrong there
                error = apsw.IOError if op == "xSync" else rng.choice((apsw.FullError, apsw.IOError))
                fail_once(tmp_path / f"{round_}-{attempt}", op, rng.randrange(totals[op]), error, seed, 40)


def test_a_disk_that_stays_full_and_has_room_again(tmp_path: Path) -> None:
    """Every write fails from some moment on, until there is room: refused meanwhile, taken afterwards, nothing lost."""
    for first in range(150, 400, 25):
        directory = tmp_path / str(first)
        directory.mkdir()
        disk = FaultyDisk()
        full = [False]
        disk.fail = lambda op, n, full=full: apsw.FullError if op == "xWrite" and full[0] else None
        backing = Faulty(directory / "gemflow.db", disk)
        rig = Rig(backing, Rules(retries=0))
        rig.slots(2)
        rig.submit([new("a"), new("b"), new("c", dep(0))], "before")
        full[0] = True
        refused = Answer()
        rig.post(submission(refused, "meanwhile", [new("d")]))
        rig.executor.end(rig.attempt(1))
        for _ in range(5):
            rig.turn()
        assert refused.code == "disk_full"
        assert rig.state(1) is State.RUNNING  # what can't be written has not happened
        full[0] = False
        rig.run()
        assert rig.state(1) is State.SUCCEEDED
        assert rig.submit([new("d")], "meanwhile").code is None
        rig.check()
        backing.close()
        look(directory / "gemflow.db", {"before": 3, "meanwhile": 1}, {1: State.SUCCEEDED})


def test_a_power_cut_at_any_moment(tmp_path: Path) -> None:
    seed = SEED if LONG else 7
    rng = random.Random(seed)
    print("seed", seed)
    path = tmp_path / "power" / "gemflow.db"
    path.parent.mkdir()
    SqliteStore(path).close()  # the file is there: what the name of a new file needs is not what this is about
    with closing(apsw.Connection(str(path))) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    disk = FaultyDisk()
    history = History(path, disk, seed, 60 if LONG else 15)
    moments: list[tuple[dict[str, Image], Any]] = []
    disk.before_sync = lambda: moments.append(
        ({name: image.copy() for name, image in disk.images.items()}, history.acknowledged())
    )
    history.run()
    assert history.stopped is None
    assert len(moments) > 30
    assert any(name.endswith(".db") and image.pending for images, _ in moments for name, image in images.items())
    for number, (images, acknowledged) in enumerate(moments):
        for cut in range(CUTS):
            directory = tmp_path / f"{number}-{cut}"
            directory.mkdir()
            for name, image in images.items():
                (directory / Path(name).name).write_bytes(image.after_power_cut(rng))
            try:
                look(directory / "gemflow.db", *acknowledged)
            except BaseException:
                print(f"sync {number}, cut {cut}, seed {seed}")
                raise
            shutil.rmtree(directory)


# A disk that is really full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("a small file system can only be mounted by root")
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=False)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    daemon = Daemon(workers=2, min_free_mb=0, keep_days=0)
    daemon.state = small_disk / "state"
    try:
        daemon.start()
        client = daemon.client()
        running = client.submit(
            {
                "id": "slow",
                "type": "command",
                "data": {"args": ["sh", "-c", f"while ! test -e {daemon.directory}/go; do sleep 0.05; done; echo 1"]},
            }
        )
        later = client.submit({"type": "echo", "delay": 3600.0})["first"]
        stored: list[tuple[str, int]] = []
        refusal = None
        for _ in range(200):
            name = str(uuid.uuid4())
            try:
                reply = client.submit({"type": "echo", "data": {"x": "x" * 900_000}, "delay": 3600.0}, submission=name)
                stored.append((name, reply["flow"]))
            except Refusal as error:
                refusal = error
                break
        assert refusal is not None, "40 MB took 180"
        assert refusal.code == "disk_full"
        assert len(stored) > 5
        (daemon.directory / "go").touch()
        client.wait(f"f{running['flow']}")  # running work goes on
        assert client.results(f"f{running['flow']}")[0]["ok"]
        client("cancel", refs=[f"f{flow}" for _, flow in stored])
        with pytest.raises(Refusal) as again:
            client.submit({"type": "echo", "data": {"x": "x" * 900_000}})
        assert again.value.code == "disk_full"
        subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)  # somebody makes room
        for _ in range(100):
            try:
                client.run({"type": "echo", "data": {"x": "x" * 900_000}})
                break
            except Refusal as error:
                assert error.code == "disk_full"
                client("wait", refs=[later], timeout=0.2)  # it looks once a second
        else:
            raise AssertionError("it takes nothing, though there is room")
        assert (daemon.state / "ballast").exists()
        daemon.stop()
        daemon.restart()
        client = daemon.client()
        for name, flow in stored:
            assert client("submission", submission=name)["flow"] == flow
        assert client("db_check", patience=PATIENCE)["problems"] == []
        client.close()
    finally:
        daemon.close()
