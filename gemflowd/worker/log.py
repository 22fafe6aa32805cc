"""The log of one attempt: lines in, `LOG` messages out, with limits. What is dropped is counted, and told at the end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from gemflowd.host.logs import redact
from gemflowd.worker import wire

#: Of one attempt: lines, bytes of all of them, characters of each.
MAX_LINES: Final = 10_000
MAX_BYTES: Final = 1024 * 1024
MAX_LINE: Final = 8_192
#: What follows the part of a longer line that is kept.
CUT: Final = " […]"


class Log:
    """Used from any thread. After `close` nothing is taken any more.

    Args:
        send: puts a message on the channel.

    Attributes:
        forked: of all logs: this process is a child that a handler has forked. It has no part in the worker's channel, and its
            locks may be held by threads that it does not have: its lines are output of the process, and get into the log as such.
    """

    forked = False

    __slots__ = ("_attempt", "_bytes", "_closed", "_dropped", "_lines", "_lock", "_send", "_waiting", "task")

    def __init__(self, task: int, attempt: int, send: Callable[[list[Any]], None]) -> None:
        self.task = task
        self._attempt = attempt
        self._send = send
        # Not a plain lock: an object that is destroyed in here may print from its `__del__`.
        self._lock = threading.RLock()
        self._waiting: dict[tuple[str, str], str] | None = None  # by stream and source: the beginning of a line
        self._lines = 0
        self._bytes = 0
        self._dropped = 0
        self._closed = False

    def __call__(self, stream: str, text: str) -> None:
        """Add one line."""
        if Log.forked:
            with suppress(OSError):
                os.write(2, f"{text}\n".encode("utf-8", "replace"))
            return
        with self._lock:
            if not self._closed:
                self._add(stream, text)

    def feed(self, stream: str, text: str, source: str = "") -> None:
        """Add what a stream says: whole lines at once, the rest when the line ends, or the attempt.

        Args:
            source: a stream's own lines are put together for each of its sources.
        """
        key = (stream, source)
        with self._lock:
            if self._closed:
                return
            if self._waiting is None:
                self._waiting = {}
            before = self._waiting.get(key, "")
            if self._dropped:
                self._dropped += text.count("\n")
                return
            if "\n" in text:
                *lines, rest = (before + text).split("\n")
                for line in lines:
                    self._add(stream, _shown(line))
            else:
                rest = before + text
            if "\r" in rest[:-1]:  # a progress bar, which writes one line again and again
                rest = rest[rest.rindex("\r", 0, -1) + 1 :]
            self._waiting[key] = rest[: MAX_LINE + 1]

    def close(self) -> None:
        """The attempt is about to end: what waits for the end of its line is one, and what was dropped is told."""
        if Log.forked:
            return
        with self._lock:
            for (stream, _), rest in (self._waiting or {}).items():
                if rest and not self._dropped:
                    self._add(stream, _shown(rest))
            self._closed = True
            if self._dropped:
                self._say("log", f"[{self._dropped} lines more were not kept]")

    def _add(self, stream: str, text: str) -> None:
        if self._dropped:
            self._dropped += 1
            return
        text = redact(text)  # the daemon's own keys: a net, for who prints the environment
        if len(text) > MAX_LINE:
            text = text[:MAX_LINE] + CUT
        data = text.encode("utf-8", "replace")
        if self._lines == MAX_LINES or self._bytes + len(data) > MAX_BYTES:
            self._dropped = 1
            self._say("log", f"[the log is full ({MAX_LINES} lines or {MAX_BYTES} bytes): the rest is not kept]")
            return
        self._lines += 1
        self._bytes += len(data)
        self._say(stream, data.decode("utf-8"))

    def _say(self, stream: str, text: str) -> None:
        self._send([wire.LOG, self.task, self._attempt, time.time(), stream, text])


def _shown(line: str) -> str:
    """What a terminal would show of it."""
    return line.rstrip("\r").rpartition("\r")[2]
