"""Control groups: what is found in the kernel's own words. The real thing needs a delegated group (tests/systemd)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gemflowd.host.cgroups import Groups, OutOfMemory, WorkerGroup, memory_max, own_group


def mountinfo(mount: Path, kind: str = "cgroup2", options: str = "rw", root: str = "/") -> str:
    return f"31 23 0:28 {root} {mount} rw,relatime shared:9 - {kind} {kind} {options}\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "system.slice" / "gemflowd.service").mkdir(parents=True)
    return tmp_path


def test_our_group_in_version_2(tree: Path) -> None:
    own = "9:memory:/elsewhere\n0::/system.slice/gemflowd.service\n"
    assert own_group(mountinfo(tree), own) == (tree, tree / "system.slice" / "gemflowd.service")
    assert own_group("", own) is None
    assert own_group(mountinfo(tree), "9:memory:/elsewhere\n") is None


def test_a_mount_that_shows_a_part_of_the_hierarchy(tree: Path) -> None:
    """As in a container."""
    own = "0::/docker/abc/system.slice\n"
    assert own_group(mountinfo(tree, root="/docker/abc"), own) == (tree, tree / "system.slice")


def test_the_least_limit_above_us_counts(tree: Path) -> None:
    own = "0::/system.slice/gemflowd.service\n"
    assert memory_max(mountinfo(tree), own) is None
    (tree / "system.slice" / "gemflowd.service" / "memory.max").write_text("max\n")
    (tree / "system.slice" / "memory.max").write_text("4000000\n")
    assert memory_max(mountinfo(tree), own) == 4_000_000
    (tree / "system.slice" / "gemflowd.service" / "memory.max").write_text("3000000\n")
    assert memory_max(mountinfo(tree), own) == 3_000_000


def test_version_1(tree: Path) -> None:
    (tree / "system.slice" / "memory.limit_in_bytes").write_text("5000000\n")
    mounted = mountinfo(tree, "cgroup", "rw,memory") + mountinfo(tree / "cpu", "cgroup", "rw,cpu")
    assert memory_max(mounted, "8:cpu:/\n9:memory:/system.slice\n") == 5_000_000


def test_what_the_kernel_says_of_a_worker_that_it_killed(tree: Path) -> None:
    group = WorkerGroup(tree / "system.slice")
    assert group.out_of_memory() is None
    group.limit(1_000_000)
    assert (group.path / "memory.max").read_text() == "1000000"
    (group.path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\n")
    assert group.out_of_memory() is None
    (group.path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\n")
    assert group.out_of_memory() == OutOfMemory(1_000_000, 1_000_000, own=True)
    (group.path / "memory.peak").write_text("999000\n")
    assert group.out_of_memory() == OutOfMemory(999_000, 1_000_000, own=True)


def test_a_worker_that_was_killed_for_a_limit_above_it(tree: Path) -> None:
    """The kernel counts a kill in the group of the killed, and that there was none left in the group whose limit it was."""
    group = WorkerGroup(tree / "system.slice")
    group.limit(1_000_000)
    (group.path / "memory.events").write_text("low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 1\n")
    (group.path / "memory.peak").write_text("5000\n")
    assert group.out_of_memory() == OutOfMemory(5000, 1_000_000, own=False)


def test_a_limit_that_is_refused_stops_nothing(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    group = WorkerGroup(tree / "system.slice")
    (group.path / "memory.max").mkdir()
    group.limit(1_000_000)
    assert "does not take 1000000 bytes" in caplog.text
    WorkerGroup(tree / "gone").limit(1_000_000)


def test_a_group_that_is_gone_is_removed(tree: Path) -> None:
    assert WorkerGroup(tree / "gone").remove()
    assert not WorkerGroup(tree / "system.slice").remove()  # something is in it


def delegate(group: Path) -> Path:
    """Make it look as systemd and the kernel do."""
    try:
        os.setxattr(group, "user.delegate", b"1")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    (group / "cgroup.controllers").write_text("memory pids\n")
    (group / "cgroup.procs").write_text("")
    return group


def test_the_delegated_group_is_ours_or_the_one_above_it(tree: Path) -> None:
    ours = delegate(tree / "system.slice" / "gemflowd.service")
    (ours / "daemon").mkdir()
    assert Groups.find(mountinfo(tree), "0::/system.slice/gemflowd.service/daemon\n") is not None
    assert (ours / "cgroup.subtree_control").read_text() == "+memory"


def test_what_is_delegated_to_a_users_systemd_is_not_ours(tree: Path) -> None:
    delegate(tree / "system.slice")
    assert Groups.find(mountinfo(tree), "0::/system.slice/gemflowd.service\n") is None
    assert not (tree / "system.slice" / "cgroup.subtree_control").exists()


def test_a_second_daemon_in_the_same_group_has_none(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    delegate(tree / "system.slice" / "gemflowd.service")
    own = "0::/system.slice/gemflowd.service\n"
    first = Groups.find(mountinfo(tree), own)
    assert first is not None
    assert Groups.find(mountinfo(tree), own) is None
    assert "another daemon has the delegated control group" in caplog.text
    del first


def test_what_an_earlier_daemon_has_left_is_removed(tree: Path) -> None:
    ours = delegate(tree / "system.slice" / "gemflowd.service")
    (ours / "worker-b1" / "made by" / "a program").mkdir(parents=True)
    (ours / "worker-c2").mkdir()
    (ours / "another").mkdir()
    groups = Groups.find(mountinfo(tree), "0::/system.slice/gemflowd.service\n")
    assert groups is not None
    assert (ours / "another").exists()
    assert not (ours / "worker-b1").exists()
    assert not (ours / "worker-c2").exists()


def test_counters_of_another_worker_are_nobodys(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A group that could not be removed still says that the kernel has killed in it."""
    ours = delegate(tree / "system.slice" / "gemflowd.service")
    groups = Groups.find(mountinfo(tree), "0::/system.slice/gemflowd.service\n")
    assert groups is not None
    (ours / "worker-b1").mkdir()
    assert groups.worker("b1", os.getpid(), 1_000_000) is None
    assert "worker b1 has no control group of its own" in caplog.text


def test_a_users_unit_says_that_its_group_is_delegated(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's systemd leaves no mark."""
    ours = tree / "system.slice" / "gemflowd.service"
    (ours / "cgroup.controllers").write_text("memory pids\n")
    (ours / "cgroup.procs").write_text("")
    (ours / "cgroup.subtree_control").write_text("")
    own = "0::/system.slice/gemflowd.service\n"
    assert Groups.find(mountinfo(tree), own) is None
    monkeypatch.setenv("GEMFLOW_DELEGATED", "1")
    assert Groups.find(mountinfo(tree), own) is not None
    (tree / "system.slice" / "cgroup.subtree_control").write_text("")
    assert Groups.find(mountinfo(tree), "0::/system.slice\n") is None
