"""The child: takes orders from the channel, a ticket for each from the eventfd, and runs them.

A ticket is what makes a hand-over revocable: the daemon puts one ticket in for each order and may take tickets out again;
the kernel decides who gets the last one. An order that finds no ticket was taken back. What had really started is known to
the daemon even when this process dies within the next microsecond: what is missing from the tickets.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import queue
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import msgpack

from gemflowd.handlers.errors import AttemptCancelled
from gemflowd.handlers.registry import Handler
from gemflowd.host.titles import set_title
from gemflowd.model.attempt import Kind
from gemflowd.worker import wire
from gemflowd.worker.orphans import reap_orphans
from gemflowd.worker.requests import Requests
from gemflowd.worker.runner import AnyContext, Config, Order, Surroundings, never_began, run_async, run_sync

_READ: Final = 256 * 1024
_MAX_MESSAGE: Final = 256 * 1024 * 1024


def run_worker(
    handlers: Mapping[str, Handler], name: str, kind: Kind, channel: socket.socket, tickets: int, lease: int
) -> None:
    """Work until told to stop or the daemon is gone."""
    channel.set_inheritable(False)  # a program that kept these would keep the daemon waiting for our end
    os.set_inheritable(tickets, False)
    os.set_inheritable(lease, False)  # only subprocesses that are given it by name inherit it
    # The daemon decides when a worker ends. Not SIG_IGN: that would be inherited by programs that a handler starts.
    signal.signal(signal.SIGTERM, _no_op)
    signal.signal(signal.SIGINT, _no_op)
    gc.enable()
    set_title(f"gemflowd: worker {name}")
    if kind is Kind.BLOCKING:
        BlockingWorker(handlers, name, channel, tickets, lease).run()
    else:
        asyncio.run(CoroutineWorker(handlers, name, channel, tickets, lease).run())


def _no_op(*_: object) -> None:
    """A signal handler that lets the signal pass."""


def take_ticket(tickets: int) -> bool:
    try:
        os.eventfd_read(tickets)
    except BlockingIOError:
        return False
    return True


class BlockingWorker:
    """One task at a time on the main thread; a second thread reads orders, cancels and EOF, so that those work meanwhile."""

    def __init__(
        self, handlers: Mapping[str, Handler], name: str, channel: socket.socket, tickets: int, lease: int
    ) -> None:
        self._handlers = handlers
        self._name = name
        self._channel = channel
        self._tickets = tickets
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._around = Surroundings(Config({}, 10.0, 2**24), self._send, lease, Requests(self._send))
        self._asked: dict[tuple[int, int], bool] = {}  # orders that are not done -> whether they were asked to stop
        self._current: Order | None = None
        self._context: AnyContext | None = None
        self._interruptible = False
        self._sending = threading.Lock()
        self._in_frame = False
        self._postponed = False  # asked to stop in the middle of a frame

    def run(self) -> None:
        signal.signal(signal.SIGUSR1, self._interrupt)
        threading.Thread(target=self._read, name="channel", daemon=True).start()
        self._send([wire.UP])
        while (order := self._orders.get()) is not None:
            if take_ticket(self._tickets):
                self._current = order
                run_sync(self._handlers[order.type], order, self._around, self._running)
                self._current = None
            else:
                self._send([wire.DROPPED, 1])
            self._asked.pop((order.task, order.token), None)
            reap_orphans()

    def _running(self, context: AnyContext | None) -> None:
        self._context = context
        self._interruptible = context is not None
        current = self._current
        if context is not None and current is not None and self._asked.get((current.task, current.token)):
            self._interrupt()  # asked before it could be interrupted

    def _send(self, message: list[Any]) -> None:
        """Put a message on the channel whole: a stop that arrives meanwhile waits, or half a frame would be left there.

        A handler's own threads may come here as well; only the main thread is ever interrupted.
        """
        data = msgpack.packb(message)
        if threading.current_thread() is not threading.main_thread():
            with self._sending:
                self._channel.sendall(data)
            return
        self._in_frame = True
        try:
            with self._sending:
                self._channel.sendall(data)
        finally:
            self._in_frame = False
            if self._postponed:
                self._postponed = False
                self._interrupt()

    def _read(self) -> None:
        unpacker = msgpack.Unpacker(max_buffer_size=_MAX_MESSAGE, strict_map_key=False)
        while True:
            try:
                data = self._channel.recv(_READ)
            except OSError:
                data = b""
            if not data:
                os._exit(0)  # the daemon is gone: nobody wants the outcome any more
            unpacker.feed(data)
            for message in unpacker:
                self._take(message)

    def _take(self, message: list[Any]) -> None:
        match message:
            case [wire.START, orders]:
                for fields in orders:
                    order = Order(*fields)
                    self._asked[order.task, order.token] = False
                    self._orders.put(order)
            case [wire.CONFIG, settings, grace, most]:
                self._around = replace(self._around, config=Config(settings, grace, most))
            case [wire.REPLY, number, granted, answer]:
                self._around.requests.answered(number, granted, answer)
            case [wire.CANCEL, task, token]:
                if (task, token) in self._asked:
                    self._asked[task, token] = True
                current = self._current
                if current is not None and (current.task, current.token) == (task, token):
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            case [wire.STOP]:
                self._orders.put(None)

    def _interrupt(self, *_: object) -> None:
        """SIGUSR1, on the main thread: the handler that runs is asked to stop. Between two tasks it comes too late."""
        if self._in_frame:
            self._postponed = True
        elif self._interruptible:
            self._interruptible = False
            if self._context is not None:
                self._context._cancelled = True
            raise AttemptCancelled


class CoroutineWorker:
    """Many coroutines on one loop."""

    def __init__(
        self, handlers: Mapping[str, Handler], name: str, channel: socket.socket, tickets: int, lease: int
    ) -> None:
        self._handlers = handlers
        self._channel = channel
        self._tickets = tickets
        self._around = Surroundings(Config({}, 10.0, 2**24), self._send, lease, Requests(self._send))
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._contexts: dict[tuple[int, int], AnyContext] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._stopping = False
        self._through = asyncio.Event()

    async def run(self) -> None:
        reader, self._writer = await asyncio.open_connection(sock=self._channel)
        self._send([wire.UP])
        reading = asyncio.create_task(self._read(reader))
        await self._through.wait()
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        await self._shut_down_handlers()
        await self._writer.drain()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Orders, cancels and EOF, also while the last attempts of a worker that is to leave still run."""
        unpacker = msgpack.Unpacker(max_buffer_size=_MAX_MESSAGE, strict_map_key=False)
        while True:
            try:
                data = await reader.read(_READ)
            except OSError:
                data = b""
            if not data:
                os._exit(0)  # the daemon is gone
            unpacker.feed(data)
            for message in unpacker:
                self._take(message)

    async def _shut_down_handlers(self) -> None:
        """Handler modules may have a coroutine `shutdown()`, to close what they keep open for the life of the loop."""
        for name in dict.fromkeys(handler.info.module for handler in self._handlers.values()):
            shutdown = getattr(importlib.import_module(name), "shutdown", None)
            if shutdown is not None:
                with suppress(Exception):
                    await shutdown()

    def _send(self, message: list[Any]) -> None:
        assert self._writer is not None
        self._writer.write(msgpack.packb(message))

    def _take(self, message: list[Any]) -> None:
        match message:
            case [wire.START, orders]:
                for fields in orders:
                    self._start(Order(*fields))
            case [wire.CONFIG, settings, grace, most]:
                self._around = replace(self._around, config=Config(settings, grace, most))
            case [wire.REPLY, number, granted, answer]:
                self._around.requests.answered(number, granted, answer)
            case [wire.CANCEL, task, token]:
                running = self._tasks.get((task, token))
                if running is not None:
                    context = self._contexts.get((task, token))
                    if context is not None:
                        context._cancelled = True
                    running.cancel()
            case [wire.STOP]:
                self._stopping = True
                if not self._tasks:
                    self._through.set()

    def _start(self, order: Order) -> None:
        if not take_ticket(self._tickets):
            self._send([wire.DROPPED, 1])
            return
        key = (order.task, order.token)
        attempt = run_async(self._handlers[order.type], order, self._around, self._contexts)
        task = asyncio.get_running_loop().create_task(attempt)
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._ended(order, done))

    def _ended(self, order: Order, task: asyncio.Task[None]) -> None:
        self._tasks.pop((order.task, order.token), None)
        if task.cancelled():  # before its first step: nothing in it could tell
            self._send(never_began(order))
        if self._stopping and not self._tasks:
            self._through.set()
