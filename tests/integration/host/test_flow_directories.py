"""The directories of flows that are gone, on a real disk: what is taken away, what is left alone, what can't be harmed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gemflowd.host.flow_directories import BadWorkspace, FlowDirectories

OURS = 1234567


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for flow in (1, 2, 3, 9):
        (tmp_path / "flows" / str(flow)).mkdir(parents=True)
        (tmp_path / "flows" / str(flow) / "file").write_text(f"of {flow}")
    return tmp_path


def flows(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "flows").iterdir())


@contextmanager
def started(root: Path) -> Iterator[FlowDirectories]:
    directories = FlowDirectories(root)
    directories.start()
    yield directories
    directories.close()


def emptied(root: Path, *gone: int) -> None:
    """Remove some flows; what an idle thread has left in the trash is wrong."""
    directories = FlowDirectories(root)
    directories.remove(gone)
    directories.start()
    directories._gone.put(None)  # the end comes after them, unlike with `close`, which does not wait for what is left
    directories._thread.join()
    assert list((root / "trash").iterdir()) == []


def sweep(root: Path, *known: int, next_flow: int, database: int = OURS) -> None:
    directories = FlowDirectories(root)
    assert sorted(map(str, directories.numbers())) == [
        name for name in flows(root) if name.isdigit() and name[0] != "0"
    ]
    directories.sweep(database, set(known), next_flow)


def test_what_is_asked_for_goes_and_nothing_else(root: Path) -> None:
    (root / "shared" / "team").mkdir(parents=True)
    emptied(root, 1, 3, 500)
    assert flows(root) == ["2", "9"]
    assert (root / "shared" / "team").is_dir()


def test_links_are_removed_and_never_followed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "kept").write_text("kept")
    (outside / "kept").chmod(0o640)
    inside = root / "flows" / "1"
    (inside / "directory").symlink_to(outside)
    (inside / "file-link").symlink_to(outside / "kept")
    os.link(outside / "kept", inside / "hard")
    (root / "flows" / "7").symlink_to(outside)
    emptied(root, 1, 7)
    assert flows(root) == ["2", "3", "9"]
    assert (outside / "kept").read_text() == "kept"
    assert (outside / "kept").stat().st_mode & 0o777 == 0o640


def test_deep_trees_odd_names_and_modes(root: Path) -> None:
    inside = root / "flows" / "1"
    place = os.open(inside, os.O_RDONLY)
    for _ in range(1100):  # deeper than Python calls itself, and than there are descriptors
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    os.mkfifo(inside / "fifo")
    (inside / os.fsdecode(b"\xff\n")).touch()
    for mode in (0o000, 0o555, 0o400):
        shut = inside / f"shut-{mode}"
        (shut / "below").mkdir(parents=True)
        (shut / "below" / "file").touch()
        (shut / "below").chmod(mode)
        shut.chmod(mode)
    inside.chmod(0)
    emptied(root, 1)
    assert flows(root) == ["2", "3", "9"]


def test_many_files(root: Path) -> None:
    for number in range(2500):
        (root / "flows" / "2" / f"{number}").touch()
    emptied(root, 2)
    assert flows(root) == ["1", "3", "9"]


def test_a_sweep_removes_what_is_gone_and_sets_aside_what_is_not_ours(root: Path) -> None:
    sweep(root, 1, 2, 3, 9, next_flow=10)  # now it is ours
    (root / "flows" / "notes").mkdir()
    (root / "flows" / "007").mkdir()
    sweep(root, 1, 3, next_flow=4)  # an older copy of the database: it never had a flow 9
    assert flows(root) == ["007", "1", "3", "notes"]
    assert (root / "aside" / str(OURS) / "9" / "file").read_text() == "of 9"
    emptied(root)


def test_a_database_begun_anew_finds_nothing_of_the_old_one(root: Path) -> None:
    sweep(root, 1, 2, 3, 9, next_flow=10)
    sweep(root, next_flow=1, database=99)
    assert flows(root) == []
    assert (root / "aside" / str(OURS) / "1" / "file").read_text() == "of 1"
    (root / "flows" / "1").mkdir()
    sweep(root, 1, next_flow=2, database=OURS)  # the old one again: flow 1 is the other's
    assert flows(root) == []
    assert (root / "aside" / "99" / "1").is_dir()
    (root / "flows" / "1").mkdir()
    sweep(root, next_flow=1, database=7)
    assert sorted(path.name for path in (root / "aside" / str(OURS)).iterdir()) == ["1", "1-1", "2", "3", "9"]
    assert list((root / "trash").iterdir()) == []


def test_directories_from_before_there_was_a_mark(root: Path) -> None:
    sweep(root, 2, next_flow=10)
    assert flows(root) == ["2"]
    assert sorted(path.name for path in (root / "aside" / "unknown").iterdir()) == ["1", "3", "9"]
    sweep(root, next_flow=10)
    assert flows(root) == []
    emptied(root)


def test_a_sweep_that_was_interrupted_is_done_again(root: Path) -> None:
    sweep(root, 1, 2, 3, 9, next_flow=10)
    (root / "aside").mkdir()
    (root / "aside").chmod(0o500)
    if os.geteuid() == 0:  # whom modes don't keep out
        (root / "aside").rmdir()
        (root / "aside").touch()
    with pytest.raises(BadWorkspace, match="can't be used"):
        sweep(root, 1, next_flow=2, database=99)
    assert (root / ".gemflow").read_text() == f"{OURS}\n"
    if os.geteuid() == 0:
        (root / "aside").unlink()
    else:
        (root / "aside").chmod(0o700)
    sweep(root, 1, next_flow=2, database=99)
    assert flows(root) == []
    assert len(list((root / "aside" / str(OURS)).iterdir())) == 4
    assert (root / ".gemflow").read_text() == "99\n"


@pytest.mark.parametrize("name", ["flows", "trash", "aside", ".gemflow"])
def test_a_link_in_the_place_of_ours_is_refused(
    root: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    if name == "flows":
        (root / "flows").rename(root / "were-flows")
    (root / name).symlink_to(outside)
    with pytest.raises(BadWorkspace):
        sweep(root, next_flow=1)
    assert list(outside.iterdir()) == []


def test_the_end_does_not_wait_for_all_of_it(root: Path) -> None:
    with started(root) as directories:
        directories.remove([1])
    assert not directories._thread.is_alive()
