"""Redis and PostgreSQL of the system, started for a benchmark in a temporary directory, with their durability named.

Raises `Missing` with what to install when the machine has none.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 30.0


class Missing(Exception):
    """A server is not installed or does not start. The text says what to do."""


@contextmanager
def none(directory: Path) -> Iterator[tuple[str, str]]:
    """A peer that needs no server."""
    yield "", ""


@contextmanager
def redis(directory: Path) -> Iterator[tuple[str, str]]:
    """As it comes: snapshots now and then, no fsync. Yields URL and settings."""
    with _redis(directory) as url:
        yield url, "as it comes (snapshots, no fsync)"


@contextmanager
def redis_fsync(directory: Path) -> Iterator[tuple[str, str]]:
    """With a log that is synced before each answer. Yields URL and settings."""
    with _redis(directory, "--appendonly", "yes", "--appendfsync", "always") as url:
        yield url, "appendonly yes, appendfsync always"


@contextmanager
def _redis(directory: Path, *options: str) -> Iterator[str]:
    found = shutil.which("redis-server")
    if found is None:
        raise Missing("redis-server is not installed (Debian: apt-get install redis-server)")
    port = _free_port()
    command = [found, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), *options]
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_for(port, process)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def postgresql(directory: Path) -> Iterator[tuple[str, str]]:
    """As it comes, which is with fsync. Yields URL and settings."""
    programs = _postgresql()
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    if user:
        try:
            owner = pwd.getpwnam(user)
        except KeyError:
            raise Missing("PostgreSQL does not run as root, and there is no user `postgres`") from None
        directory.chmod(0o755)  # it has to reach its own below
        (directory / "pg").mkdir()
        os.chown(directory / "pg", owner.pw_uid, owner.pw_gid)
    data, port = directory / "pg" / "data", _free_port()
    with (directory / "server.log").open("wb") as log:
        made = [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "bench", "-E", "UTF8"]
        subprocess.run(made, check=True, user=user, stdout=log, stderr=log, cwd="/")
        settings = ["-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "listen_addresses=127.0.0.1"]
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(directory / "pg"), *settings]
        process = subprocess.Popen(command, stdout=log, stderr=log, user=user, cwd="/")
    try:
        _wait_for(port, process)
        yield f"postgresql://bench@127.0.0.1:{port}/postgres", "fsync on, synchronous_commit on"
    finally:
        process.send_signal(2)  # fast: connections are ended
        process.wait()


def _postgresql() -> Path:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: int(place.parent.name), reverse=True)
    found = shutil.which("postgres")
    for place in [*places, *([Path(found).parent] if found else [])]:
        if (place / "postgres").exists() and (place / "initdb").exists():
            return place
    raise Missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Missing(f"the server ended at once with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise Missing("the server did not listen in time")
