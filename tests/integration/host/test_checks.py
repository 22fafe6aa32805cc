"""What `doctor` makes of directories, sockets, keys and cgroups that are not as they should be."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from gemflowd.host.checks import Finding, Installation, cgroup, check_all, state_directory

ROOT = os.geteuid() == 0


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    path.chmod(0o600)
    return Installation(
        state=state,
        sockets=[path],
        shared=False,
        min_free_bytes=1,
        workers=1,
        memory_bytes=1,
        sqlite="3.99.0",
        key=True,
        key_file=None,
        supervised=False,
        watched=False,
    )


def found(installation: Installation, check: str) -> Finding:
    (finding,) = [one for one in check_all(installation) if one.check == check]
    return finding


def test_all_is_well(installation: Installation) -> None:
    findings = check_all(installation)
    assert [one for one in findings if one.state == "wrong"] == []
    assert {one.check for one in findings if one.state == "ok"} >= {
        "python",
        "sqlite",
        "socket",
        "key",
        "files",
        "memory",
    }
    assert all(one.remedy is None for one in findings if one.state == "ok")


@pytest.mark.parametrize(("mode", "state"), [(0o700, "ok"), (0o755, "hint"), (0o770, "wrong"), (0o702, "wrong")])
def test_who_may_use_the_state_directory(installation: Installation, mode: int, state: str) -> None:
    installation.state.chmod(mode)
    assert state_directory(installation.state, mount(installation.state, "ext4")).state == state


@pytest.mark.parametrize(
    ("kind", "state"), [("xfs", "ok"), ("nfs4", "wrong"), ("fuse.sshfs", "wrong"), ("tmpfs", "hint")]
)
def test_what_the_state_directory_lies_on(installation: Installation, kind: str, state: str) -> None:
    finding = state_directory(installation.state, mount(installation.state, kind))
    assert finding.state == state
    assert kind in finding.message


def mount(point: Path, kind: str) -> str:
    return f"36 35 98:0 / {os.path.realpath(point)} rw shared:1 - {kind} /dev/x rw"


def test_a_state_directory_that_is_gone(installation: Installation) -> None:
    installation.state.rmdir()
    assert {found(installation, "state").state, found(installation, "disk").state} == {"wrong"}


def test_a_disk_that_is_nearly_full(installation: Installation) -> None:
    assert found(replace(installation, min_free_bytes=1 << 60), "disk").state == "wrong"


@pytest.mark.parametrize(
    ("mode", "shared", "state"),
    [(0o600, False, "ok"), (0o660, False, "wrong"), (0o660, True, "ok"), (0o666, True, "wrong"), (0o000, False, "ok")],
)
def test_who_may_use_the_sockets(installation: Installation, mode: int, shared: bool, state: str) -> None:
    installation.sockets[0].chmod(mode)
    assert found(replace(installation, shared=shared), "socket").state == state


def test_a_socket_that_is_gone_or_something_else(installation: Installation) -> None:
    installation.sockets[0].unlink()
    assert found(installation, "socket").state == "wrong"
    installation.sockets[0].touch(0o600)
    assert found(installation, "socket").state == "wrong"


def test_keys_are_looked_for_and_never_shown(installation: Installation, tmp_path: Path) -> None:
    assert found(replace(installation, key=False), "key").state == "hint"
    file = tmp_path / "key"
    file.write_text("AIzaSy-not-a-real-key")
    for mode, state in ((0o600, "ok"), (0o640, "ok"), (0o644, "hint"), (0o000, "ok" if ROOT else "wrong")):
        file.chmod(mode)
        finding = found(replace(installation, key_file=file), "key")
        assert finding.state == state
        assert "AIza" not in repr(finding)
    assert found(replace(installation, key_file=tmp_path / "none"), "key").state == "wrong"


def test_more_than_the_machine_has(installation: Installation) -> None:
    assert found(replace(installation, workers=1024, memory_bytes=1 << 40), "memory").state == "hint"


def test_a_cgroup_of_our_own(tmp_path: Path) -> None:
    assert cgroup(None, tmp_path).state == "hint", "no unified hierarchy"
    assert cgroup("/ours", tmp_path).state == "hint", "not mounted there"
    (tmp_path / "cgroup.controllers").touch()
    assert cgroup("/ours", tmp_path).state == "hint", "somewhere else"
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "cgroup.procs").touch()
    (ours / "cgroup.controllers").write_text("cpu pids\n")
    assert "memory controller" in cgroup("/ours", tmp_path).message
    (ours / "cgroup.controllers").write_text("memory pids\n")
    assert cgroup("/ours", tmp_path).state == "ok"
    if not ROOT:
        ours.chmod(0o500)
        assert cgroup("/ours", tmp_path).remedy == "under systemd: Delegate=memory pids"
