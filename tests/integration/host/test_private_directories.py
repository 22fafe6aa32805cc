"""Real directories and the machine's own mounts."""

import os
from pathlib import Path

import pytest

from gemflowd.host.filesystem import UnsafeDirectory, make_private, network_type


def test_it_is_made_with_its_parents(tmp_path: Path):
    directory = tmp_path / "a" / "b"
    make_private(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    make_private(directory)


def test_one_that_is_there_is_not_changed(tmp_path: Path):
    directory = tmp_path / "mine"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    make_private(directory)
    assert directory.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_others_may_not_write(tmp_path: Path, mode: int):
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(UnsafeDirectory, match=f"mode {mode:04o}.*chmod go-w"):
        make_private(directory)


def test_a_file_is_no_directory(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UnsafeDirectory, match="not a directory"):
        make_private(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_strangers_is_refused(tmp_path: Path):
    directory = tmp_path / "theirs"
    directory.mkdir(mode=0o700)
    os.chown(directory, 4242, 4242)
    with pytest.raises(UnsafeDirectory, match="belongs to user 4242"):
        make_private(directory)


def test_a_link_of_ones_own_is_followed(tmp_path: Path):
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "state").symlink_to(tmp_path / "disk")
    make_private(tmp_path / "state")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_a_strangers_link_is_refused(tmp_path: Path):
    (tmp_path / "disk").mkdir(mode=0o700)
    link = tmp_path / "state"
    link.symlink_to(tmp_path / "disk")
    os.chown(link, 4242, 4242, follow_symlinks=False)
    with pytest.raises(UnsafeDirectory, match="belongs to user 4242"):
        make_private(link)


def test_proc_is_not_a_network(tmp_path: Path):
    assert network_type("/proc") is None
    assert network_type("/proc/does/not/exist") is None
