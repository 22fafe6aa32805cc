"""`sys.stdout` and `sys.stderr` of nursery and workers: what an attempt prints goes to its task's log, all else where it always went.

Covers what is written in Python. What is written to the descriptors themselves, by C code or by subprocesses, is `raw`.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import suppress
from contextvars import Context, ContextVar
from typing import Any, Final, TextIO, cast

from gemflowd.host import logs
from gemflowd.worker.log import Log

#: Descriptors by the name of their stream.
DESCRIPTORS: Final = {"stdout": 1, "stderr": 2}
#: Characters of an unfinished line outside of any attempt.
_MOST: Final = 64 * 1024


class Streams:
    """Whose log it is that the streams write to.

    Attributes:
        alone: the log of the one attempt of a blocking worker, which the threads of its handler share.
        outside: descriptors, by stream, for what is printed while no attempt runs.
    """

    def __init__(self) -> None:
        self.alone: Log | None = None
        self.outside = dict(DESCRIPTORS)
        self._own: ContextVar[Log | None] = ContextVar("gemflow_log", default=None)

    def own(self, log: Log) -> None:
        """From here on that of this coroutine, and of those and the threads that it starts in its context."""
        self._own.set(log)

    def owner(self, context: Context) -> Log | None:
        """The log of whoever runs in that context."""
        return context.get(self._own)

    def current(self) -> Log | None:
        return self.alone or self._own.get()

    def write_outside(self, name: str, data: bytes) -> None:
        """Write past all logs."""
        descriptor = DESCRIPTORS[name] if Log.forked else self.outside[name]
        with suppress(OSError):  # nobody reads it
            while data:
                data = data[os.write(descriptor, data) :]


def install() -> Streams:
    """Put them in the place of this process's streams, once. Before handlers are imported, which may keep hold of what they find."""
    if isinstance(sys.stdout, TaskStream):
        return sys.stdout.streams
    streams = Streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # some programs go on using `sys.__stdout__`
            stream.reconfigure(line_buffering=True)
    sys.stdout = TaskStream(streams, "stdout")
    sys.stderr = TaskStream(streams, "stderr")
    return streams


def set_up_logging(style: str) -> None:
    """Our own lines go to the daemon's log, past those of tasks. Nothing is set up for what handlers log: that is theirs to do, and
    without it warnings go to `sys.stderr`, as always in Python.

    Args:
        style: see `host.logs`.
    """
    logger = logs.set_up(style, stream=cast(TextIO, _Past(install())))
    for handler in list(logging.root.handlers):
        logging.root.removeHandler(handler)
        logger.addHandler(handler)
    logger.propagate = False
    logging.captureWarnings(False)


class _Past(io.TextIOBase):
    """Standard error, past all logs."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        self._streams.write_outside("stderr", text.encode("utf-8", "replace"))
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self.fileno())

    def fileno(self) -> int:
        return self._streams.outside["stderr"]


class TaskStream(io.TextIOBase):
    """A text stream that never fails and is never closed: a handler that closes `sys.stdout` must not take it from the next."""

    def __init__(self, streams: Streams, name: str) -> None:
        self.streams = streams
        self.name = f"<{name}>"
        self._name = name
        self._waiting = ""  # an unfinished line outside of any attempt
        self.buffer = _Bytes(self)

    encoding = "utf-8"
    errors = "replace"
    mode = "w"
    line_buffering = True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        log = None if Log.forked else self.streams.current()
        if log is not None:
            log.feed(self._name, text)
        else:
            self._write_outside(text)
        return len(text)

    def _write_outside(self, text: str) -> None:
        whole, end, rest = (self._waiting + text).rpartition("\n")
        self._waiting = rest
        if end:
            self.streams.write_outside(self._name, f"{whole}\n".encode("utf-8", "replace"))
        if len(rest) > _MOST:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, ""
            self.streams.write_outside(self._name, waiting.encode("utf-8", "replace"))

    def close(self) -> None:
        self.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        """The descriptor that subprocesses are given for it."""
        return DESCRIPTORS[self._name]

    def reconfigure(self, **_: Any) -> None:
        """As that of `io.TextIOWrapper`, which programs call to set an encoding; this one takes all there is."""


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`."""

    def __init__(self, text: TaskStream) -> None:
        self._text = text

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._text.write(bytes(view).decode("utf-8", "replace"))
        return len(view)

    def flush(self) -> None:
        self._text.flush()

    def close(self) -> None:
        self.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()
