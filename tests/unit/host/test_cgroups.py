"""Control groups: what is found in the kernel's own words. The real thing needs a delegated group (tests/systemd)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemflowd.host.cgroups import WorkerGroup, memory_max, own_group


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
    assert group.out_of_memory() == (1_000_000, 1_000_000)
    (group.path / "memory.peak").write_text("999000\n")
    assert group.out_of_memory() == (999_000, 1_000_000)


def test_a_group_that_is_gone_is_removed(tree: Path) -> None:
    assert WorkerGroup(tree / "gone").remove()
    assert not WorkerGroup(tree / "system.slice").remove()  # something is in it
