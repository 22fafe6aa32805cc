"""A stand-in for the model in a process of its own, which outlives the daemons that ask it, and what it has noted."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gemflowd.standin.launch import launch


class StandInProcess:
    """
    Attributes:
        settings: of a daemon that shall ask it.
        env: variables for that daemon.
        pid: of the process.
        log: the file in which it notes what it is asked.
    """

    def __init__(self, url: str, log: Path, pid: int) -> None:
        self.log = log
        self.pid = pid
        self.settings = {"gemini_endpoint": url}
        self.env = {"GEMINI_API_KEY": "a-key-that-nobody-looks-at", "NO_PROXY": "127.0.0.1"}

    def lines(self) -> list[dict[str, Any]]:
        """Every request, in the order in which they were answered."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def answered(self) -> Counter[str]:
        """How often each question was answered well, by its digest."""
        return Counter(line["prompt"] for line in self.lines() if line["status"] == 200 and line["fault"] is None)


def digest(prompt: str) -> str:
    """By which a prompt without a system instruction is noted."""
    return hashlib.sha256(f"\0{prompt}".encode()).hexdigest()[:16]


@contextmanager
def stand_in(directory: Path, *arguments: str) -> Iterator[StandInProcess]:
    log = directory / "stand-in.jsonl"
    process, url = launch("--log-file", str(log), *arguments)
    try:
        yield StandInProcess(url, log, process.pid)
    finally:
        process.terminate()
        process.wait()
