"""A real `gemflowd run` on a state directory of its own, which leaves nothing behind, or the test fails."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest
from helpers.raw import PATIENCE, Raw, Subscriber

import gemflowd
from gemflowd.executor.local.lease import leftovers

HELPERS = Path(__file__).parent
_PACKAGES = Path(gemflowd.__file__).parents[1]
#: What a defect looks like on the daemon's stderr.
_ALARMS = ("Traceback", "defect", "ResourceWarning", "never awaited", "Task exception")


def environment(**values: str) -> dict[str, str]:
    """This process's environment without anything that a daemon would take a setting or a key from."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GEMFLOW_", "PARALLEL_", "GEMINI_", "GOOGLE_", "NOTIFY_", "WATCHDOG_", "JOURNAL_"))
        and not name.lower().endswith("_proxy")
        and name not in ("DEBUG", "CONFIGURATION_DIRECTORY", "STATE_DIRECTORY", "RUNTIME_DIRECTORY")
    }
    return {**kept, "PYTHONPATH": str(_PACKAGES), "PYTHONUNBUFFERED": "1", **values}


def write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """As TOML, which writes strings, numbers, truths and lists of strings as JSON does."""
    path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in settings.items()))


def _toml(value: Any) -> str:
    if not isinstance(value, Mapping):
        return json.dumps(value)
    return f"{{{', '.join(f'{json.dumps(key)} = {_toml(its)}' for key, its in value.items())}}}"


def wait_gone(pid: int, patience: float = PATIENCE) -> bool:
    """Wait until a process is gone, also one that is not our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], patience)[0])
    finally:
        os.close(descriptor)


class Daemon:
    """One installation: a directory in /tmp (socket paths are short) with state, sockets, settings and log.

    Args:
        arguments: more options of `gemflowd run`.
        env: more variables for it.
        settings: what its settings file says. Without a `drain_timeout` it does not wait long for what runs.
    """

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None, **settings: Any) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gf-", dir="/tmp"))
        self.state = self.directory / "state"
        self.endpoint = f"ipc://{self.directory}/d.sock"
        self.events = f"ipc://{self.directory}/events.sock"
        self.config = self.directory / "test.toml"
        self.log = self.directory / "log"
        self.expected_in_log: list[str] = []  # alarms that a test means to cause
        self._arguments = arguments
        self._env = {"CONFIGURATION_DIRECTORY": str(self.directory / "config"), **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: list[Raw | Subscriber] = []
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(f"{self.directory}/notify")
        write_settings(self.config, {"drain_timeout": 0.5, **settings})

    # Life

    def launch(self) -> None:
        """Start it without waiting for anything."""
        assert self.process is None or self.process.returncode is not None
        while select.select([self._notify], [], [], 0)[0]:  # an earlier one's last words
            self._notify.recv(4096)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gemflowd", "run", *self.command_line()],
                cwd=self.directory,
                env=environment(**self._env, NOTIFY_SOCKET=f"{self.directory}/notify"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def command_line(self) -> list[str]:
        options = ["--config", str(self.config), "--state-dir", str(self.state), "--endpoint", self.endpoint]
        return [*options, *self._arguments]

    def start(self) -> Self:
        """Start it and wait until it says that it serves."""
        self.launch()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        self.wait_said("READY=1")

    def wait_said(self, word: str) -> None:
        """Wait until it tells its service manager this."""
        assert self.process is not None
        descriptor = os.pidfd_open(self.process.pid)
        try:
            while True:
                ready, _, _ = select.select([self._notify, descriptor], [], [], PATIENCE)
                assert ready, f"not {word} after {PATIENCE:g} s: {self.log_text()}"
                if self._notify in ready:
                    if word in self._notify.recv(4096).decode().splitlines():
                        return
                elif descriptor in ready:
                    raise AssertionError(f"it ended with status {self.process.wait()}: {self.log_text()}")
        finally:
            os.close(descriptor)

    def kill(self) -> None:
        """kill -9, and nothing else: what is left is for the next one to clear away."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait_end(self) -> int:
        """Wait for its end and return its status."""
        assert self.process is not None
        if self.process.returncode is None:
            assert wait_gone(self.process.pid), f"still running after {PATIENCE:g} s: {self.log_text()}"
        return self.process.wait()

    def stop(self) -> None:
        """SIGTERM; it must end well and leave nothing running."""
        self.terminate()
        status = self.wait_end()
        assert status == 0, f"status {status}: {self.log_text()}"
        assert self.left() == []

    def restart(self) -> Self:
        return self.start()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    # Looking

    def client(self, **options: Any) -> Raw:
        return self._keep(Raw(self.endpoint, **options))

    def subscriber(self, *topics: str) -> Subscriber:
        """A SUB socket whose subscriptions the daemon has: statistics, asked for last, have come."""
        subscriber = self._keep(Subscriber(self.events, *topics, "stats"))
        while subscriber.message()[0] != "stats":
            pass
        if "stats" not in topics:
            subscriber.socket.unsubscribe("stats")
        return subscriber

    def _keep(self, client: Any) -> Any:
        self._clients.append(client)
        return client

    def left(self) -> list[int]:
        """Processes that carry this installation's mark (`executor.local.lease`)."""
        return [process.pid for process in leftovers(str((self.state / "lease").resolve()))]

    def nursery(self) -> int | None:
        """The process that is the parent of all workers; None while it is being replaced."""
        for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            with suppress(OSError):  # it ended meanwhile
                if b"gemflowd.executor.local.nursery" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
        return None

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    # End

    def close(self) -> None:
        """End it, if it runs, and look whether it behaved."""
        for client in self._clients:
            client.close()
        try:
            if self.alive:
                self.terminate()
                try:
                    status = self.wait_end()
                except AssertionError:
                    self.kill()
                    raise
                assert status == 0, f"status {status}: {self.log_text()}"
            left = [pid for pid in self.left() if not wait_gone(pid, 2.0)]
            described = [f"{pid} {command_line(pid)}" for pid in left]
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert not described, f"left running: {described}\n{self.log_text()}"
            text = self.log_text()
            for alarm in _ALARMS:
                assert alarm in self.expected_in_log or alarm not in text, text
        finally:
            self._notify.close()
            shutil.rmtree(self.directory, ignore_errors=True)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "(gone)"


@contextmanager
def running(*arguments: str, env: Mapping[str, str] | None = None, **settings: Any) -> Iterator[Daemon]:
    """A started daemon with these settings; ended and looked at when the block is left."""
    daemon = Daemon(*arguments, env=env, **settings)
    try:
        yield daemon.start()
    finally:
        daemon.close()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """One with the settings that most tests need. To be imported by name where it is used."""
    with running(workers=1) as started:
        yield started


def with_handlers(module: str, **settings: Any) -> dict[str, Any]:
    """Settings that add a module of handlers from this directory."""
    return {"handlers": [module], "handler_path": [str(HELPERS)], **settings}


def gemflowd_says(
    *arguments: str, env: Mapping[str, str] | None = None, patience: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    """Run `gemflowd` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gemflowd", *arguments],
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=patience,
        stdin=subprocess.DEVNULL,
        check=False,
    )
