"""The asyncio connection to a daemon; the same rules as `connection.py`, for many callers at a time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

import zmq
import zmq.asyncio

from gemflowctl import peer
from gemflowctl.errors import ClientError, ConnectionLost
from gemflowctl.steps import Body, Call
from gemflowctl.wire import Mailbox, Pending

_MAX_REPLY: Final = 64 * 1024 * 1024
#: Requests under way at a time; the protocol allows 64, and resent ones may be counted twice for a moment.
_CREDIT: Final = 32


class AsyncConnection:
    """One daemon, seen from one event loop. Arguments as `Connection`."""

    def __init__(
        self, context: zmq.asyncio.Context, endpoint: str, *, reply_timeout: float, restart_patience: float
    ) -> None:
        self._context = context
        self._endpoint = peer.check_endpoint(endpoint)
        self._restart_patience = restart_patience
        self._mailbox = Mailbox(reply_timeout)
        self._socket: zmq.asyncio.Socket | None = None
        self._monitor: zmq.asyncio.Socket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._settled: dict[int, asyncio.Event] = {}
        self._opening = asyncio.Lock()
        self._credit = asyncio.Semaphore(_CREDIT)
        self._known = False
        self._generation = 0

    async def post(self, call: Call) -> Pending:
        """As `Connection.post`."""
        await self._credit.acquire()
        try:
            async with self._opening:
                if self._socket is None:
                    await self._open()
                assert self._socket is not None
                pending = self._mailbox.new(call, time.monotonic())
                self._settled[pending.id] = asyncio.Event()
                try:
                    await self._socket.send(pending.frame)
                except BaseException:
                    self._mailbox.forget(pending)
                    self._settled.pop(pending.id)
                    raise
        except BaseException:
            self._credit.release()
            raise
        return pending

    async def collect(self, pending: Pending) -> Body:
        """As `Connection.collect`."""
        settled = self._settled[pending.id]
        try:
            while not pending.settled:
                left = pending.deadline - time.monotonic()
                if left <= 0:
                    self._mailbox.silent(pending)
                    if not pending.settled:
                        await self._recover(counts=True)
                    continue
                with suppress(TimeoutError):
                    await asyncio.wait_for(settled.wait(), left)
        finally:
            self._mailbox.forget(pending)
            self._settled.pop(pending.id, None)
            self._credit.release()
        return pending.result()

    async def call(self, call: Call) -> Body:
        """`post` and `collect`."""
        return await self.collect(await self.post(call))

    async def close(self) -> None:
        """Close the sockets; who still waits for a reply gets `ConnectionLost`."""
        await self._disconnect()
        self._announce(self._mailbox.fail_all(ConnectionLost("the client was closed before the reply came")))

    async def _disconnect(self) -> None:
        tasks, self._tasks = self._tasks, []
        current = asyncio.current_task()
        for task in tasks:
            if task is not current:
                task.cancel()
        for task in tasks:
            if task is not current:
                with suppress(asyncio.CancelledError):
                    await task
        if self._socket is not None:
            self._socket.disable_monitor()
            if self._monitor is not None:
                self._monitor.close(linger=0)
            self._socket.close(linger=0)
            self._socket = self._monitor = None

    async def _read(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            frames = await socket.recv_multipart()
            pending = self._mailbox.deliver(frames[-1])
            self._known = True
            if pending is not None:
                self._announce([pending])

    async def _watch(self, monitor: zmq.asyncio.Socket) -> None:
        """Wait for a broken connection. Runs out after the first: recovery starts a new one."""
        await monitor.recv_multipart()
        self._known = True  # it was connected, so there was a daemon
        await self._recover(counts=False)

    async def _recover(self, *, counts: bool) -> None:
        generation = self._generation
        async with self._opening:
            if generation != self._generation:
                return  # another caller did it while we waited for the lock
            self._generation += 1
            await self._disconnect()
            if not counts:
                self._announce(self._mailbox.lost())
            if not self._mailbox.waiting():
                return  # the next request opens it
            try:
                await self._open()
            except ClientError as error:
                self._announce(self._mailbox.fail_all(error))
                return
            assert self._socket is not None
            for pending in self._mailbox.waiting():
                self._mailbox.again(pending, time.monotonic(), counts=counts)
                await self._socket.send(pending.frame)

    async def _open(self) -> None:
        give_up = time.monotonic() + (self._restart_patience if self._known else 0.0)
        while (problem := peer.absence(self._endpoint)) is not None:
            if time.monotonic() >= give_up:
                raise problem
            await asyncio.sleep(peer.LOOK_SECONDS)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MAX_REPLY)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(self._endpoint)
        self._tasks = [
            asyncio.create_task(self._read(self._socket)),
            asyncio.create_task(self._watch(self._monitor)),
        ]

    def _announce(self, settled: list[Pending]) -> None:
        for pending in settled:
            event = self._settled.get(pending.id)
            if event is not None:
                event.set()
