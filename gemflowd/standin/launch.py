"""Start a stand-in as a process of its own, which ends with this one, and say how to reach it."""

from __future__ import annotations

import os
import subprocess
import sys

from gemflowd.model.errors import GemflowError

#: What the SDK needs to see as a key; a stand-in asks for none.
_NO_KEY = "offline-stand-in"


def launch(*arguments: str) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    """Start `gemflowd stand-in` with these arguments.

    Returns:
        the process, and the environment that sends the SDK to it.

    Raises:
        GemflowError: it did not come up; it has said why on stderr.
    """
    ready_read, ready_write = os.pipe()
    parent_read, _parent_write = os.pipe()  # the write end stays open as long as this process lives
    process = subprocess.Popen(
        [
            sys.executable,
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
    return process, {
        "GOOGLE_GEMINI_BASE_URL": url,
        "GEMINI_API_KEY": _NO_KEY,
        "GOOGLE_API_KEY": _NO_KEY,
        "NO_PROXY": "127.0.0.1,localhost",
    }
