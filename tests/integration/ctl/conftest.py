"""Fixtures for the client's tests: a scripted daemon, and `gemflowctl` in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from integration.ctl.ctlpeer import Peer, command


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="gfctl-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def peer(directory: Path) -> Iterator[Peer]:
    found = Peer(directory)
    yield found
    found.stop()


@pytest.fixture
def ctl(peer: Peer) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `gemflowctl` against the peer in a process of its own."""

    def run(*arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(peer.endpoint, *arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "TZ": "UTC", **environment},
        )

    return run


@pytest.fixture
def spawn(peer: Peer) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `gemflowctl` against the peer and don't wait for it."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                command(peer.endpoint, *arguments),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                # What a shell starts in the background inherits that Ctrl-C is ignored, and Python leaves that so.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start
