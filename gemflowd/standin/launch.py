"""Start a stand-in as a process of its own, which ends with this one, and say how to reach it."""

from __future__ import annotations

import os
import subprocess
import sys

from gemflowd.model.errors import GemflowError


def launch(*arguments: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start `gemflowd stand-in` with these arguments.

    Returns:
        the process, and its URL.

    Raises:
        GemflowError: it did not come up; it has said why on stderr.
    """
    ready_read, ready_write = os.pipe()
    parent_read, _parent_write = os.pipe()  # the write end stays open as long as this process lives
    process = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "gemflowd",
            "stand-in",
            "--ready-fd",
            str(ready_write),
            "--parent-fd",
            str(parent_read),
            *arguments,
        ],
        pass_fds=(ready_write, parent_read),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    os.close(ready_write)
    os.close(parent_read)
    with os.fdopen(ready_read) as ready:
        word, _, url = ready.readline().strip().partition(" ")
    if word != "READY":
        process.wait()
        raise GemflowError("the stand-in did not start")
    return process, url
