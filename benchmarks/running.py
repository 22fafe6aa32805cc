"""A daemon for a benchmark: started on a directory of its own, ready when it says so, stopped at the end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def daemon(*options: str) -> Iterator[tuple[str, float]]:
    """Yields the endpoint and the seconds from start to READY=1."""
    directory = Path(tempfile.mkdtemp(prefix="gemflow-bench-"))
    endpoint = f"ipc://{directory}/d.sock"
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(str(directory / "notify"))
    ready.settimeout(60)
    begin = time.perf_counter()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gemflowd",
            "run",
            "--state-dir",
            str(directory / "s"),
            "--endpoint",
            endpoint,
            *options,
        ],
        env={**os.environ, "NOTIFY_SOCKET": str(directory / "notify")},
        stderr=subprocess.DEVNULL,
    )
    try:
        while b"READY=1" not in ready.recv(4096):
            pass
        yield endpoint, time.perf_counter() - begin
    finally:
        process.terminate()
        process.wait(timeout=60)
        ready.close()
        shutil.rmtree(directory, ignore_errors=True)
