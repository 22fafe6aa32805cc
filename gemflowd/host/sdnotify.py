"""What the daemon tells systemd: sd_notify(3) in so far as gemflowd needs it. Passes no descriptors.

Outside systemd nothing is sent and nothing fails.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

#: systemd reads its socket all the time; a service manager that doesn't must not hold the daemon for long.
SEND_TIMEOUT: Final = 1.0


class Notifier:
    """The way to the service manager. Takes its variables out of `environ`, so that no child speaks for the daemon.

    Attributes:
        watchdog: seconds after which systemd kills a daemon that did not call `alive`; None when it doesn't watch.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", "")
        # "@name" is a socket in the abstract namespace, whose address begins with a zero byte (unix(7)).
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog: float | None = None
        if microseconds.isdecimal() and int(microseconds) > 0 and watched in ("", str(os.getpid())):
            self.watchdog = int(microseconds) / 1e6

    @property
    def listens(self) -> bool:
        """Whether there is a service manager that wants to be told."""
        return bool(self._address)

    @property
    def feed_every(self) -> float | None:
        """Seconds between two calls of `alive`: half of `watchdog`, as sd_watchdog_enabled(3) advises."""
        return None if self.watchdog is None else self.watchdog / 2

    def ready(self, status: str = "") -> bool:
        """The daemon serves requests; also ends a reload."""
        return self._send("READY=1", *_status(status))

    def reloading(self, status: str = "") -> bool:
        """A reload began. systemd tells it from an older one by the time, so this is called first thing."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", *_status(status))

    def stopping(self, status: str = "") -> bool:
        """The daemon takes nothing new any more."""
        return self._send("STOPPING=1", *_status(status))

    def status(self, status: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(*_status(status))

    def alive(self) -> bool:
        """Feed the watchdog. Only for who has really done a turn of work."""
        return self._send("WATCHDOG=1")

    def _send(self, *fields: str) -> bool:
        """Whether the message was handed over. Never raises: a lost message must not stop the daemon."""
        if self._address[:1] not in ("/", "\0") or not fields:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(SEND_TIMEOUT)
                channel.connect(self._address)
                channel.sendall("\n".join(fields).encode())
        except OSError:
            return False
        return True


def _status(text: str) -> list[str]:
    """A status is one line: a line break in it would be read as a field of its own."""
    return [f"STATUS={' '.join(text.split())}"] if text else []
