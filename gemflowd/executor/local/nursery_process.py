"""The daemon's side of one nursery: its process, its control socket, the forks that it is asked for.

After a reload two of them may live side by side: the new one forks, the old one stays until its last worker has ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from typing import Any, Final, Protocol

import msgpack

from gemflowd.executor.local.lease import VARIABLE, Lease
from gemflowd.executor.local.options import Options
from gemflowd.executor.local.output import Output
from gemflowd.host import logs
from gemflowd.model.attempt import HandlerInfo, Kind
from gemflowd.model.errors import ConfigError
from gemflowd.worker import wire

log = logging.getLogger("gemflow.pool")

#: Forks that a nursery is asked for at a time: its socket holds only so many requests.
_FORKING: Final = 16
#: Libraries that start a thread per core when they are imported would keep the nursery from forking.
_SINGLE_THREAD: Final = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


class Parent(Protocol):
    """Who is told what becomes of workers and nursery."""

    def forked(self, name: str, pid: int, pidfd: int) -> None: ...
    def unforked(self, name: str, why: str) -> None: ...
    def exited(self, pid: int, status: int) -> None: ...
    def nursery_ended(self, nursery: NurseryProcess, status: int) -> None:
        """It is gone, and its workers with it (PDEATHSIG)."""
        ...


class NurseryProcess:
    """Started by being made.

    Attributes:
        ready: the catalogue, once the handlers are loaded; else `ConfigError`.
        types: the task types that its workers run, empty until then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lease: Lease, options: Options, parent: Parent) -> None:
        self._loop = loop
        self._parent = parent
        self._catalogue: list[HandlerInfo] = []
        self._to_fork: deque[tuple[str, Kind, socket.socket, int, Output]] = deque()
        self._why: str | None = None  # the handlers can't be loaded
        self._forking = 0  # asked for, not answered yet
        self.options = options
        self.ready: asyncio.Future[list[HandlerInfo]] = loop.create_future()
        self.types: frozenset[str] = frozenset()
        self.workers = 0  # that live, or are asked for
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        arguments = {
            "parent": os.getpid(),
            "handlers": list(options.handlers),
            "handler_path": list(options.handler_path),
            "lease": lease.descriptor,
            "log": logs.style(),
            "config": (config := _in_memory(options)),
        }
        # -P: nothing is imported from the directory in which somebody happened to start the daemon.
        module = "gemflowd.executor.local.nursery"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno()), json.dumps(arguments)],
                pass_fds=(theirs.fileno(), lease.descriptor, config),
                env={**os.environ, **_SINGLE_THREAD, VARIABLE: lease.marker},
                stdin=subprocess.DEVNULL,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(config)
        self._control: socket.socket | None = ours
        loop.add_reader(ours.fileno(), self._readable)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._control is not None

    def fork(self, name: str, kind: Kind, channel: socket.socket, tickets: int, output: Output) -> None:
        """Ask for a worker. Takes over the worker's end of its channel; `tickets` and `output` stay the caller's."""
        self.workers += 1
        self._to_fork.append((name, kind, channel, tickets, output))
        self._fork_some()

    def _fork_some(self) -> None:
        while self._to_fork and self._forking < _FORKING and self._control is not None:
            name, kind, channel, tickets, output = self._to_fork[0]
            descriptors = [channel.fileno(), tickets, *output.descriptors]
            try:
                wire.send_packet(self._control, [wire.FORK, name, int(kind)], descriptors)
            except OSError:  # it is gone; its end is told in a moment
                return
            self._to_fork.popleft()
            channel.close()
            output.handed_over()
            self._forking += 1

    def _readable(self) -> None:
        while self._control is not None:
            try:
                message, descriptors = wire.receive_packet(self._control)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # said once, when it left something of ours unread; its last words come after
            except OSError:
                message, descriptors = None, []
            if message is None:
                self._ended()
                return
            self._says(message, descriptors)

    def _says(self, message: list[Any], descriptors: list[int]) -> None:
        match message:
            case [wire.HANDLER, fields]:
                self._catalogue.append(HandlerInfo(**{**fields, "kind": Kind(fields["kind"])}))
            case [wire.READY]:
                self.types = frozenset(info.type for info in self._catalogue)
                self.ready.set_result(self._catalogue)
            case [wire.FAILED, why]:
                self._why = why  # told when it has ended, so that nothing of it is left then
            case [wire.FORKED, name, pid]:
                self._forking -= 1
                self._fork_some()
                self._parent.forked(name, pid, descriptors[0])
            case [wire.UNFORKED, name, why]:
                self._forking -= 1
                self._parent.unforked(name, why)
                self._fork_some()
            case [wire.EXITED, pid, status, _peak]:
                self._parent.exited(pid, status)
            case [wire.NOTE, text]:
                log.warning("%s", text)

    def _ended(self) -> None:
        self._drop_control()
        status = self._process.wait()
        if not self.ready.done():
            why = self._why or f"the worker nursery ended with status {status} before it was ready"
            self.ready.set_exception(ConfigError([why]))
        self._parent.nursery_ended(self, status)

    def _drop_control(self) -> None:
        if self._control is not None:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
        for _, _, channel, _, _ in self._to_fork:
            channel.close()
        self._to_fork.clear()

    def kill(self) -> None:
        """End it at once, whatever it is importing. Its workers end with it."""
        self._process.kill()

    def close(self) -> None:
        """End it, and wait for that; it has no workers any more."""
        self._drop_control()
        self._process.kill()  # it may be importing for a while
        self._process.wait(timeout=10)

    def retire(self) -> None:
        """End it while the daemon goes on; it has no workers any more."""
        self._drop_control()
        self._process.kill()
        self._loop.run_in_executor(None, self._process.wait)


def _in_memory(options: Options) -> int:
    """The descriptor of a file without a name that has what workers are told: settings may be secret, and a command line is not."""
    descriptor = os.memfd_create("gemflow-config", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(msgpack.packb([options.settings, options.grace, options.max_result_bytes]))
    return descriptor
