"""The daemon's end of a socketpair to a worker: MessagePack values one after the other, never blocking.

What can't be sent at once waits in an outbox; the pool hands nothing over to a worker whose outbox is not empty. EOF is the
death notice.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from enum import Flag, auto
from typing import Any, Final

import msgpack

_READ: Final = 256 * 1024
#: Largest value from a worker: a result at its limit, with room for the rest of the message.
MAX_MESSAGE: Final = 256 * 1024 * 1024


class Pause(Flag):
    """Why a channel is not read."""

    LOGS = auto()  # the worker has said more than is stored
    REST = auto()  # nothing that it says is urgent


def _nobody(*_: object) -> None:
    """Nobody is to be told any more."""


class Channel:
    """Owns the socket. `on_messages` gets all values of one read, `on_end` is called once, at EOF or a broken stream,
    `on_clear` when the outbox has become empty again."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        end: socket.socket,
        on_messages: Callable[[list[Any]], None],
        on_end: Callable[[], None],
        on_clear: Callable[[], None],
    ) -> None:
        end.setblocking(False)
        self._loop = loop
        self._socket = end
        self._on_messages = on_messages
        self._on_end = on_end
        self._on_clear = on_clear
        self._unpacker = msgpack.Unpacker(max_buffer_size=MAX_MESSAGE, strict_map_key=False)
        self._outbox: deque[memoryview] = deque()
        self._closed = False
        self._paused = Pause(0)
        loop.add_reader(end.fileno(), self._readable)

    @property
    def clear(self) -> bool:
        """Whether everything that was sent has left."""
        return not self._outbox and not self._closed

    @property
    def backlog(self) -> int:
        """Bytes that have not left yet."""
        return sum(map(len, self._outbox))

    def send(self, message: object) -> None:
        if self._closed:
            return
        data = memoryview(msgpack.packb(message))
        if not self._outbox:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                pass
            except OSError:
                return  # the worker is gone: reading tells
            if not data:
                return
            self._loop.add_writer(self._socket.fileno(), self._writable)
        self._outbox.append(data)

    def _writable(self) -> None:
        try:
            while self._outbox:
                sent = self._socket.send(self._outbox[0])
                if sent < len(self._outbox[0]):
                    self._outbox[0] = self._outbox[0][sent:]
                    return
                self._outbox.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._outbox.clear()
        self._loop.remove_writer(self._socket.fileno())
        self._on_clear()

    def finish(self) -> None:
        """Take what has arrived, and no more: somebody who inherited the other end may keep it open for ever."""
        while not self._closed and self._readable():
            pass
        self.close()

    def _readable(self) -> bool:
        """Returns whether there was something."""
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        try:
            if data:
                self._unpacker.feed(data)
                messages = list(self._unpacker)
                if messages:
                    self._on_messages(messages)
                return True
        except (ValueError, msgpack.exceptions.UnpackException):
            pass  # a worker that writes rubbish is as good as dead
        on_end = self._on_end
        self.close()
        on_end()
        return False

    def pause(self, why: Pause) -> None:
        """Stop reading, until nothing speaks against it any more."""
        if not self._paused and not self._closed:
            self._loop.remove_reader(self._socket.fileno())
        self._paused |= why

    def resume(self, why: Pause) -> None:
        """That speaks against it no more."""
        if self._paused == why and not self._closed:
            self._loop.add_reader(self._socket.fileno(), self._readable)
        self._paused &= ~why

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._outbox.clear()
            self._socket.close()
            # Who is told holds us, and we hold it: without this a dead worker would wait for a collection, which is rare here.
            self._on_messages, self._on_end, self._on_clear = _nobody, _nobody, _nobody
