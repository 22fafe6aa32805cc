"""The child: takes orders from the channel, a ticket for each from the eventfd, and runs them.

A ticket is what makes a hand-over revocable: the daemon puts one ticket in for each order and may take tickets out again;
the kernel decides who gets the last one. An order that finds no ticket was taken back. What had really started is known to
the daemon even when this process dies within the next microsecond: what is missing from the tickets.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import importlib
import logging
import mmap
import os
import queue
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import msgpack

from gemflowd.handlers.errors import AttemptCancelled
from gemflowd.handlers.registry import Handler
from gemflowd.host.titles import set_title
from gemflowd.model.attempt import Kind
from gemflowd.worker import streams, wire
from gemflowd.worker.log import Log
from gemflowd.worker.loopwatch import LoopWatch
from gemflowd.worker.orphans import reap_orphans
from gemflowd.worker.raw import RawOutput
from gemflowd.worker.requests import Requests
from gemflowd.worker.runner import AnyContext, Config, Order, Surroundings, defect, never_began, run_async, run_sync
from gemflowd.worker.streams import Streams

log = logging.getLogger("gemflow.worker")

_READ: Final = 256 * 1024
_MAX_MESSAGE: Final = 256 * 1024 * 1024
#: Tasks after which a worker that has others waiting looks for orphans; one that has none looks at once.
_LOOK_EVERY: Final = 16
VISIBLE_DEVICES: Final = "CUDA_VISIBLE_DEVICES"


def run_worker(
    handlers: Mapping[str, Handler],
    name: str,
    kind: Kind,
    channel: socket.socket,
    tickets: int,
    lease: int,
    output: Sequence[int] = (),
) -> None:
    """Work until told to stop or the daemon is gone.

    Args:
        output: the file of last words, and for a blocking worker the ends of the pipes that become its output (`raw`).
    """
    channel.set_inheritable(False)  # a program that kept these would keep the daemon waiting for our end
    os.set_inheritable(tickets, False)
    os.set_inheritable(lease, False)  # only subprocesses that are given it by name inherit it
    # The daemon decides when a worker ends. Not SIG_IGN: that would be inherited by programs that a handler starts.
    signal.signal(signal.SIGTERM, _no_op)
    signal.signal(signal.SIGINT, _no_op)
    for descriptor in output:
        os.set_inheritable(descriptor, False)
    os.register_at_fork(after_in_child=_in_forked_child)
    gc.enable()
    set_title(f"gemflowd: worker {name}")
    to_logs = streams.install()
    page = _prepare_last_words(output[0]) if output else None
    log.debug("worker %s is up", name)
    if kind is Kind.BLOCKING:
        settle = RawOutput(to_logs, output[1:], page).settle
        BlockingWorker(handlers, name, channel, tickets, lease, to_logs, settle).run()
    else:
        asyncio.run(CoroutineWorker(handlers, name, channel, tickets, lease, to_logs).run())


def _in_forked_child() -> None:
    Log.forked = True
    if faulthandler.is_enabled():
        faulthandler.enable(streams.DESCRIPTORS["stderr"], all_threads=False)


def _prepare_last_words(descriptor: int) -> mmap.mmap:
    """A crash leaves its stack there; a forked child's own goes where its output goes."""
    os.lseek(descriptor, wire.LAST_WORDS_AT, os.SEEK_SET)
    faulthandler.enable(descriptor, all_threads=False)
    return mmap.mmap(descriptor, wire.LAST_WORDS_AT)


def _no_op(*_: object) -> None:
    """A signal handler that lets the signal pass."""


def _later(seconds: float, action: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


class Devices:
    """`CUDA_VISIBLE_DEVICES` of this process: that of the attempt that runs, or else what the daemon was started with."""

    def __init__(self) -> None:
        self._before = os.environ.get(VISIBLE_DEVICES)
        self._shown: Sequence[str] = ()

    def show(self, devices: Sequence[str]) -> None:
        """Those of the next attempt."""
        if not devices and not self._shown:
            return
        self._shown = devices
        if devices:
            os.environ[VISIBLE_DEVICES] = ",".join(devices)
        elif self._before is None:
            os.environ.pop(VISIBLE_DEVICES, None)
        else:
            os.environ[VISIBLE_DEVICES] = self._before


def take_ticket(tickets: int) -> bool:
    try:
        os.eventfd_read(tickets)
    except BlockingIOError:
        return False
    return True


def _send_from_child(message: list[Any]) -> None:
    """What a process says that a handler has forked: only the original's end of the attempt counts."""
    if message[0] == wire.ENDED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    else:
        raise RuntimeError("a forked child can't ask the daemon; let the handler itself do it")


class BlockingWorker:
    """One task at a time on the main thread; a second thread reads orders, cancels and EOF, so that those work meanwhile."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        name: str,
        channel: socket.socket,
        tickets: int,
        lease: int,
        to_logs: Streams,
        settle: Callable[[], None],
    ) -> None:
        self._handlers = handlers
        self._name = name
        self._channel = channel
        self._tickets = tickets
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        requests = Requests(self._send)
        self._around = Surroundings(Config({}, 10.0, 2**24), self._send, lease, requests, to_logs, _later, settle)
        self._devices = Devices()
        self._asked: dict[tuple[int, int], bool] = {}  # orders that are not done -> whether they were asked to stop
        self._current: Order | None = None
        self._context: AnyContext | None = None
        self._interruptible = False
        self._sending = threading.Lock()
        self._in_frame = False
        self._postponed = False  # asked to stop in the middle of a frame

    def run(self) -> None:
        os.register_at_fork(after_in_child=self._in_forked_child)
        signal.signal(signal.SIGUSR1, self._interrupt)
        threading.Thread(target=self._read, name="channel", daemon=True).start()
        self._send([wire.UP])
        through = 0
        while (order := self._orders.get()) is not None:
            if take_ticket(self._tickets):
                self._current = order
                self._devices.show(order.devices)
                log.debug("%s: task %d begins, attempt %d", self._name, order.task, order.attempt)
                run_sync(self._handlers[order.type], order, self._around, self._running)
                self._current = None
                log.debug("%s: task %d is through", self._name, order.task)
            else:
                self._send([wire.DROPPED, 1])
            self._asked.pop((order.task, order.token), None)
            through += 1
            if through % _LOOK_EVERY == 0 or self._orders.empty():
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
        if Log.forked:
            _send_from_child(message)
            return
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

    def _in_forked_child(self) -> None:
        """A child of a handler has no part in what its parent and the daemon say to each other."""
        self._interruptible = False
        self._channel.close()

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
        self,
        handlers: Mapping[str, Handler],
        name: str,
        channel: socket.socket,
        tickets: int,
        lease: int,
        to_logs: Streams,
    ) -> None:
        self._handlers = handlers
        self._name = name
        self._channel = channel
        self._tickets = tickets
        self._around = Surroundings(
            Config({}, 10.0, 2**24), self._send, lease, Requests(self._send), to_logs, self._later
        )
        self._thread = threading.get_ident()
        self._sending = threading.Lock()
        self._queued = 0  # messages from other threads that wait for the loop
        self._pending = bytearray()  # what the loop has said in this turn of it
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._contexts: dict[tuple[int, int], AnyContext] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._stopping = False
        self._through = asyncio.Event()

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        reader, self._writer = await asyncio.open_connection(sock=self._channel)
        self._watch = LoopWatch(
            self._loop, self._stands_still, lambda seconds: self._send([wire.LAG, seconds, None, None])
        )
        self._send([wire.UP])
        reading = asyncio.create_task(self._read(reader))
        await self._through.wait()
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        await self._shut_down_handlers()
        self._flush()
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
        """From any thread. Others than the loop's write past it where they can: it may be standing still."""
        assert self._writer is not None
        if Log.forked:
            _send_from_child(message)
            return
        data = msgpack.packb(message)
        with self._sending:
            if threading.get_ident() == self._thread:
                if not self._pending:
                    self._loop.call_soon(self._flush)
                self._pending += data
                return
            waiting = self._queued or self._writer.transport.get_write_buffer_size()
            if not waiting and self._wrote(bytes(self._pending + data)):
                self._pending.clear()
                return
            self._queued += 1
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._send_queued, data)

    def _flush(self) -> None:
        """What one turn of the loop has to say goes together: a system call for each wakes the daemon for each.

        It is lost with the worker, as are the answers that the loop has not come to: both are attempts in flight.
        """
        assert self._writer is not None
        if Log.forked:
            return  # its parent says it
        with self._sending:
            if self._pending:
                self._writer.write(bytes(self._pending))
                self._pending.clear()

    def _wrote(self, data: bytes) -> bool:
        """Write a whole frame, or nothing of it where the channel is full."""
        try:
            left = data[os.write(self._channel.fileno(), data) :]
            while left:
                select.select([], [self._channel.fileno()], [])
                left = left[os.write(self._channel.fileno(), left) :]
        except BlockingIOError:
            return False
        except OSError:
            pass  # the daemon is gone
        return True

    def _send_queued(self, data: bytes) -> None:
        assert self._writer is not None
        with self._sending:
            self._queued -= 1
            self._writer.write(bytes(self._pending + data))
            self._pending.clear()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, action)

    def _stands_still(self, seconds: float, task: asyncio.Task[Any] | None, stack: str) -> None:
        """On the watcher's thread."""
        log = self._log_of(task) if task is not None else None
        self._send([wire.LAG, seconds, None if log is None else log.task, stack])
        if log is not None:
            log("log", f"[this coroutine has kept its loop, and all that share it, for {seconds:.1f} s; it is here:]")
            for line in stack.splitlines():
                log("log", line)

    def _log_of(self, task: asyncio.Task[Any]) -> Log | None:
        """That of the attempt for which an asyncio task works, if it is its own or can be told (Python 3.12)."""
        for key, its in list(self._tasks.items()):
            if its is task:
                context = self._contexts.get(key)
                return context.emit if context is not None and isinstance(context.emit, Log) else None
        of_task = getattr(task, "get_context", None)
        return None if of_task is None else self._around.streams.owner(of_task())

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
        log.debug("%s: task %d begins, attempt %d", self._name, order.task, order.attempt)
        attempt = run_async(self._handlers[order.type], order, self._around, self._contexts)
        task = asyncio.get_running_loop().create_task(attempt)
        self._tasks[key] = task
        self._watch.look(True)
        task.add_done_callback(lambda done: self._ended(order, done))

    def _ended(self, order: Order, task: asyncio.Task[None]) -> None:
        self._tasks.pop((order.task, order.token), None)
        if not self._tasks:
            self._watch.look(False)
        log.debug("%s: task %d is through", self._name, order.task)
        if task.cancelled():  # before its first step: nothing in it could tell
            self._send(never_began(order))
        elif (error := task.exception()) is not None:
            self._send(defect(order, error))
        if self._stopping and not self._tasks:
            self._through.set()
