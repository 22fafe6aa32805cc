"""Locks between real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gemflowd.host.locks import FileLock, LockHeld

HOLD = """
import sys
from gemflowd.host.locks import FileLock
FileLock(sys.argv[1]).acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that has the lock."""
    path = tmp_path / "gemflowd.lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield path, process
        process.kill()


def test_the_second_process_is_told_who_has_it(holder):
    path, process = holder
    with pytest.raises(LockHeld) as caught:
        FileLock(path).acquire()
    assert caught.value.pid == process.pid
    assert str(path) in str(caught.value)
    assert str(process.pid) in str(caught.value)


def test_a_killed_holder_leaves_nothing(holder):
    path, process = holder
    process.kill()
    process.wait()
    with FileLock(path) as lock:
        assert lock.held
        assert path.read_text() == f"{os.getpid()}\n"


def test_release_and_take_again(tmp_path: Path):
    path = tmp_path / "lock"
    first, second = FileLock(path), FileLock(path)
    first.acquire()
    with pytest.raises(LockHeld):
        second.acquire()
    first.release()
    first.release()
    assert path.read_text() == ""
    second.acquire()
    assert second.held
    assert not first.held
    second.release()


def test_the_file_is_private_and_not_inherited(tmp_path: Path):
    path = tmp_path / "lock"
    with FileLock(path):
        assert path.stat().st_mode & 0o777 == 0o600
        listing = subprocess.run(
            [
                sys.executable,
                "-c",
                "import os; print([os.path.realpath(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')])",
            ],
            capture_output=True,
            text=True,
            check=True,
            close_fds=False,
        )
        assert str(path) not in listing.stdout


def test_a_file_removed_under_the_holder_can_be_locked_anew(tmp_path: Path):
    path = tmp_path / "lock"
    with FileLock(path):
        path.unlink()
        with FileLock(path) as other:
            assert other.held


def test_a_link_is_not_followed(tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(OSError):
        FileLock(tmp_path / "lock").acquire()
    assert victim.read_text() == "precious"
