"""What is written to the descriptors 1 and 2 of a blocking worker, past Python's streams: by C code, subprocesses, forked children.

Both are pipes, read by a thread that gives their lines to the attempt that runs. Between two attempts one `poll` tells whether all was
read, so that an attempt's outcome never comes before its last line. A child that still holds a pipe when its attempt has ended keeps
that pipe for itself: the next attempt gets another one, so that no line goes to a log that it does not belong to.

The daemon has the reading ends of the first pipes, too (`executor.local.output`): what this process does not come to read, because it
has died or because C code keeps the interpreter's lock, is read there. A counter in shared memory tells whether it comes to it.
"""

from __future__ import annotations

import codecs
import ctypes
import mmap
import os
import select
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from gemflowd.worker.log import Log
from gemflowd.worker.streams import DESCRIPTORS, Streams

#: Bytes that a pipe holds: one read takes all that is there.
_PIPE: Final = 64 * 1024
_IOLBF: Final = 1


class _Pipe:
    """One pipe of ours.

    Attributes:
        live: it is what the descriptor leads to now; else it belongs to a child of an attempt that has ended.
        open: somebody may still write into it.
    """

    __slots__ = ("decode", "live", "name", "open", "reader")

    def __init__(self, name: str, reader: int) -> None:
        self.name = name
        self.reader = reader
        self.decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.live = True
        self.open = True


class RawOutput:
    """Takes the two descriptors over.

    Args:
        pipes: reading and writing end for standard output, and the same for standard error; none: they are made here.
        page: where the reads are counted.
    """

    def __init__(self, streams: Streams, pipes: Sequence[int] = (), page: mmap.mmap | None = None) -> None:
        self._streams = streams
        self._lock = threading.Lock()  # held while something is read and handed on
        self._epoll = select.epoll()
        self._poll = select.poll()
        self._pipes: dict[int, _Pipe] = {}  # by reading end
        self._live: dict[str, _Pipe] = {}
        self._page = page
        self._reads = 0
        self._used = False  # something came, or was forked, since the last attempt ended
        pairs = zip(pipes[::2], pipes[1::2], strict=True) if pipes else (os.pipe2(os.O_CLOEXEC) for _ in DESCRIPTORS)
        for (name, descriptor), (reader, writer) in zip(DESCRIPTORS.items(), pairs, strict=True):
            streams.outside[name] = os.dup(descriptor)
            os.set_inheritable(reader, False)
            self._lead(name, reader, writer)
        _make_line_buffered()
        os.register_at_fork(after_in_parent=self._forked)
        threading.Thread(target=self._read, name="output", daemon=True).start()

    def settle(self) -> None:
        """An attempt is about to end: everything that was written is in its log when this returns."""
        if Log.forked:
            return  # it is its parent's
        with self._lock:
            for reader, _ in self._poll.poll(0):
                self._take(self._pipes[reader])
            if self._used:
                self._used = False
                for pipe in list(self._live.values()):
                    self._renew(pipe)

    def _forked(self) -> None:
        self._used = True

    def _lead(self, name: str, reader: int, writer: int) -> None:
        """Let the descriptor lead into that pipe."""
        os.set_blocking(reader, False)
        os.dup2(writer, DESCRIPTORS[name])
        os.close(writer)
        pipe = _Pipe(name, reader)
        self._pipes[reader] = self._live[name] = pipe
        self._epoll.register(reader, select.EPOLLIN)
        self._poll.register(reader, select.POLLIN)

    def _read(self) -> None:
        while True:
            for reader, _ in self._epoll.poll():
                with self._lock:
                    if reader in self._pipes:
                        self._take(self._pipes[reader])

    def _take(self, pipe: _Pipe) -> None:
        """Read what is there and hand it on."""
        try:
            data = os.read(pipe.reader, _PIPE)
        except BlockingIOError:
            return
        if self._page is not None:
            self._reads += 1
            struct.pack_into("=Q", self._page, 0, self._reads)
        self._used = self._used or pipe.live
        log = self._streams.alone if pipe.live else None
        if log is None:
            self._streams.write_outside(pipe.name, data)
        elif data:
            log.feed(pipe.name, pipe.decode(data), "raw")
        if not data and pipe.open:  # nobody can write into it any more
            pipe.open = False
            self._epoll.unregister(pipe.reader)
            if not pipe.live:
                del self._pipes[pipe.reader]
                os.close(pipe.reader)

    def _renew(self, pipe: _Pipe) -> None:
        """Leave nobody behind who could write into the next attempt's log."""
        if self._streams.alone is not None and (rest := pipe.decode(b"", True)):
            self._streams.alone.feed(pipe.name, rest, "raw")
        descriptor = DESCRIPTORS[pipe.name]
        os.dup2(self._streams.outside[pipe.name], descriptor)  # we ourselves no longer hold it
        self._take(pipe)
        if pipe.open and self._has_writer(pipe):
            pipe.live = False  # what comes now goes past the logs
            self._poll.unregister(pipe.reader)
            self._lead(pipe.name, *os.pipe2(os.O_CLOEXEC))
            return
        if not pipe.open:
            pipe.open = True
            self._epoll.register(pipe.reader, select.EPOLLIN)
        writer = os.open(f"/proc/self/fd/{pipe.reader}", os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(writer, descriptor)
        os.close(writer)

    @staticmethod
    def _has_writer(pipe: _Pipe) -> bool:
        poll = select.poll()
        poll.register(pipe.reader, 0)
        return not any(event & select.POLLHUP for _, event in poll.poll(0))


def _make_line_buffered() -> None:
    """C's own standard output would keep lines back when it leads into a pipe."""
    with suppress(OSError, ValueError, AttributeError):  # a C library without that name
        library = ctypes.CDLL(None)
        library.setvbuf(ctypes.c_void_p.in_dll(library, "stdout"), None, _IOLBF, 0)
