"""The inside of a peer's environment: starts its workers, runs rounds as the driver asks, says how long they took.

Only the standard library: this runs in the virtual environment of the peer (`build/peers/NAME`). A peer is a module `with_NAME`
beside this file, which is imported by its workers, too. It has:

    SETTINGS                what was set, and by which advice of its documentation, in one line
    PACKAGES                distributions whose versions are told
    workers()               command lines of its worker processes; may be empty
    start(), stop()         optional
    bulk(n), single(n)      submit n no-ops in bulk or one by one, and return when the client has seen the last result;
                            one of them may be missing

The driver writes a JSON line `[way, n]` and reads a JSON line: seconds. `PEER_URL` and `PEER_DIR` tell where the server is.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

URL = os.environ.get("PEER_URL", "")
DIRECTORY = Path(os.environ.get("PEER_DIR", "."))
HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


def run(name: str) -> None:
    """Serve the driver until its end of the pipe is closed."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a peer prints is not an answer
    peer: Any = importlib.import_module(name)
    environment = {**os.environ, "PYTHONPATH": str(HERE), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    processes = [
        subprocess.Popen(command, cwd=DIRECTORY, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        for command in peer.workers()
    ]
    try:
        getattr(peer, "start", lambda: None)()
        ways = [way for way in ("bulk", "single") if hasattr(peer, way)]
        getattr(peer, ways[0])(2)  # somebody works
        versions = ", ".join(f"{package} {version(package)}" for package in peer.PACKAGES)
        print(json.dumps({"ways": ways, "settings": peer.SETTINGS, "versions": versions}), file=answers)
        for line in sys.stdin:
            way, count = json.loads(line)
            begin = time.perf_counter()
            getattr(peer, way)(count)
            print(json.dumps(time.perf_counter() - begin), file=answers)
    finally:
        getattr(peer, "stop", lambda: None)()
        for process in processes:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its group is its own, made above."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
        except (subprocess.TimeoutExpired, ProcessLookupError):
            continue
    process.wait()
