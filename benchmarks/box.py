"""A daemon that a benchmark may kill and start again, and what the kernel says about it: memory, processor time, file sizes."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.wire import Wire

ROOT = Path(__file__).parents[1]
#: Seconds that a daemon may take to be ready, or to end.
PATIENCE = 120.0


class Used(NamedTuple):
    """Seconds of one thread: on a processor, and ready but waiting for one."""

    running: float
    waiting: float

    def since(self, before: Used) -> Used:
        return Used(self.running - before.running, self.waiting - before.waiting)


class Threads:
    """Processor time of a daemon's loop and engine, from /proc, cheap enough to be read around each request.

    `engine` is all threads of Python but the loop: nothing in /proc tells the engine from the reader and its neighbours, which
    have nothing to do while the engine is asked.
    """

    def __init__(self, pid: int) -> None:
        tasks = Path(f"/proc/{pid}/task")
        others = sorted(int(path.name) for path in tasks.iterdir() if int(path.name) != pid)
        ours = [
            tid for tid in others if "ZMQ" not in (tasks / str(tid) / "comm").read_text()
        ]  # libzmq names its threads
        self._files = [os.open(tasks / str(tid) / "schedstat", os.O_RDONLY) for tid in (pid, *ours)]

    def read(self) -> tuple[Used, Used]:
        """Of the loop and of the engine; zeros when the daemon is gone."""
        loop, *others = map(self._one, self._files)
        return loop, Used(sum(used.running for used in others), sum(used.waiting for used in others))

    def _one(self, descriptor: int) -> Used:
        try:
            running, waiting, _ = os.pread(descriptor, 100, 0).split()
        except OSError:
            return Used(0.0, 0.0)
        return Used(int(running) / 1e9, int(waiting) / 1e9)

    def close(self) -> None:
        for descriptor in self._files:
            os.close(descriptor)


def proportional(pid: int) -> float:
    """MB of a process, shared pages by their share (PSS); 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


class Box:
    """One installation in a directory of its own, which is removed at the end.

    Args:
        env: more of its environment.
        settings: lines of its settings file: `workers=2`.
    """

    def __init__(self, env: Mapping[str, str] | None = None, **settings: Any) -> None:
        self._env = dict(env or {})
        self.directory = Path(tempfile.mkdtemp(prefix="gf-bench-"))
        self.endpoint = f"ipc://{self.directory}/d.sock"
        self.state = self.directory / "s"
        self.log = self.directory / "log"
        self._config = self.directory / "bench.toml"
        lines = (f"{key} = {_toml(value)}\n" for key, value in {"drain_timeout": 5.0, **settings}.items())
        self._config.write_text("".join(lines))
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ready.bind(str(self.directory / "notify"))
        self._process: subprocess.Popen[bytes] | None = None
        self._wires: list[Wire] = []

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start it and wait until it serves. Returns the moment of the start, by the wall clock."""
        while select.select([self._ready.fileno()], [], [], 0)[0]:
            self._ready.recv(4096)
        options = ["--config", str(self._config), "--state-dir", str(self.state), "--endpoint", self.endpoint]
        with self.log.open("ab") as log:
            begin = time.time()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gemflowd", "run", *options],
                env={**_clean(), **self._env, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(self.directory / "notify")},
                stdout=log,
                stderr=log,
            )
        descriptor = os.pidfd_open(self._process.pid)
        try:
            while True:
                said, _, _ = select.select([self._ready.fileno(), descriptor], [], [], PATIENCE)
                if self._ready.fileno() in said:
                    if b"READY=1" in self._ready.recv(4096):
                        return begin
                else:
                    raise RuntimeError(f"the daemon did not start: {self.log.read_text()}")
        finally:
            os.close(descriptor)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Stop it by a signal and wait until it is gone."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(timeout=PATIENCE)

    def close(self) -> None:
        for wire in self._wires:
            wire.close()
        if self._process is not None and self._process.poll() is None:
            self.end()
        self._ready.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def wire(self) -> Wire:
        """A client of its own, closed with the box."""
        wire = Wire(self.endpoint)
        self._wires.append(wire)
        return wire

    # What the kernel says

    def memory(self) -> dict[str, float]:
        """MB of the daemon itself (not of nursery and workers): all that is resident, and what of it is no file's."""
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return {name: int(fields[key].split()[0]) / 1024 for name, key in (("rss", "VmRSS"), ("anon", "RssAnon"))}

    def database(self) -> Path:
        return self.state / "gemflow.db"

    def stored(self) -> int:
        """Bytes of database and write-ahead log."""
        name = self.database().name
        return sum(path.stat().st_size for path in self.state.iterdir() if path.name.startswith(name))


def _clean() -> dict[str, str]:
    """Our environment without what a daemon would take settings from."""
    odd = ("GEMFLOW_", "PARALLEL_", "GEMINI_", "GOOGLE_", "NOTIFY_", "WATCHDOG_")
    return {name: value for name, value in os.environ.items() if not name.startswith(odd)}


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str | Path) else str(value)
