"""How far an attempt says that it is: told at once, but not more often than somebody can look. The last word is always told."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

from gemflowd.worker import wire

#: Seconds between two messages of one attempt.
EVERY: Final = 0.1
#: Characters of a message.
MOST: Final = 500

Later = Callable[[float, Callable[[], None]], object]  # seconds, what to do then


class Progress:
    """Of one attempt. May be called from any thread.

    Args:
        send: puts a message on the channel.
        later: does something after a while.
    """

    __slots__ = ("_later", "_latest", "_send", "_sent", "_task", "_token", "_waiting")

    def __init__(self, task: int, token: int, send: Callable[[list[Any]], None], later: Later) -> None:
        self._task = task
        self._token = token
        self._send = send
        self._later = later
        self._latest: tuple[float, float | None, str | None] | None = None  # not told yet
        self._sent = -math.inf
        self._waiting = False

    def __call__(self, done: float, total: float | None, message: str | None) -> None:
        """Raises: ValueError, TypeError, OverflowError: it is no progress."""
        done, total = float(done), None if total is None else float(total)
        if not math.isfinite(done) or (total is not None and not math.isfinite(total)):
            raise ValueError("progress is told in finite numbers")
        self._latest = (done, total, None if message is None else str(message)[:MOST])
        passed = time.monotonic() - self._sent
        if passed >= EVERY:
            self.tell()
        elif not self._waiting:
            self._waiting = True
            self._later(EVERY - passed, self.tell)

    def tell(self) -> None:
        """Tell what was not told yet."""
        self._waiting = False
        latest, self._latest = self._latest, None
        if latest is not None:
            self._sent = time.monotonic()
            done, total, message = latest
            clean = None if message is None else message.encode("utf-8", "replace").decode("utf-8")
            self._send([wire.PROGRESS, self._task, self._token, time.time(), done, total, clean])
