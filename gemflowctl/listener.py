"""The thread behind `Client.on`: follows events with a connection of its own and calls back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from gemflowctl.errors import ClientError
from gemflowctl.interrupt import Interrupt, Interrupted
from gemflowctl.steps import Body

_log = logging.getLogger("gemflowctl")


class Listener:
    """Args: the thread's name, and what to call with each event."""

    def __init__(self, name: str, callback: Callable[[Body], object]) -> None:
        self._callback = callback
        self._interrupt = Interrupt()
        self._name = name
        self._thread: threading.Thread | None = None

    def start(self, follow: Callable[[Interrupt], None]) -> None:
        """Run `follow` on a thread until the interrupt that it is given is set."""
        self._thread = threading.Thread(target=self._run, args=(follow,), name=self._name, daemon=True)
        self._thread.start()

    def feed(self, events: Iterable[Body]) -> None:
        """Call back for each; what the callback raises is logged and does not end it."""
        for event in events:
            try:
                self._callback(event)
            except Exception:  # noqa: BLE001 - it is the user's code; the traceback goes to the log
                _log.exception("%s: the callback failed", self._name)

    def close(self) -> None:
        """End the thread and wait for it, unless it is the one that asks. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._interrupt.set()
        if thread is not threading.current_thread():
            thread.join()
            self._interrupt.close()

    def _run(self, follow: Callable[[Interrupt], None]) -> None:
        try:
            follow(self._interrupt)
        except Interrupted:
            pass
        except ClientError as error:
            _log.error("%s: no more events: %s", self._name, error)
