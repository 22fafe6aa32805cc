"""The nursery: a process that has imported the handlers once and forks a worker on request.

Started with `python -m gemflowd.executor.local.nursery`; it talks to the daemon over the SOCK_SEQPACKET socket whose
descriptor is its first argument. It stays single-threaded, because a fork copies only one thread; where a handler's import
has started another, the module is named in the log and workers are started by exec instead.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import msgpack

from gemflowd import templates
from gemflowd.handlers.registry import Handler, discover
from gemflowd.host.process import become_subreaper, die_with_parent
from gemflowd.model.attempt import Kind
from gemflowd.worker import streams, wire
from gemflowd.worker.main import run_worker
from gemflowd.worker.runner import Config

#: Seconds to wait for the daemon's first wish, which follows the catalogue at once, and for each further one.
_FIRST_WORD: Final = 1.0
_NEXT_WORD: Final = 0.02


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)  # what a module starts when it is imported must not hide our end
    options = json.loads(sys.argv[2])
    config = _config(options["config"])  # before any module is imported, which could hand the descriptor on
    streams.set_up_logging(options.get("log", "auto"))
    die_with_parent(options["parent"])
    # Ctrl-C, and what timeout(1) sends, goes to the whole process group; the daemon decides. Not SIG_IGN: programs that
    # handlers start would inherit it.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    sys.path[:0] = [path for path in options["handler_path"] if path not in sys.path]
    try:
        handlers = discover(options["handlers"], lambda text: wire.send_packet(control, [wire.NOTE, text]))
    except ImportError as error:
        wire.send_packet(control, [wire.FAILED, str(error)])
        return
    for handler in handlers.values():
        wire.send_packet(control, [wire.HANDLER, {**asdict(handler.info), "kind": int(handler.info.kind)}])
    wire.send_packet(control, [wire.READY])
    templates.environment()  # Jinja2, which every task with dependencies needs
    # Blocking workers are forked before what only coroutine workers need is loaded: the model's SDK takes most of a second, and
    # a program that waits to be run needs nothing of it.
    blocking = {handler.info.module for handler in handlers.values() if handler.info.kind is Kind.BLOCKING}
    modules = list(dict.fromkeys(handler.info.module for handler in handlers.values()))
    nursery = Nursery(control, handlers, lease=options["lease"])
    _preload(control, [name for name in modules if name in blocking], config)
    nursery.serve_blocking()
    _preload(control, [name for name in modules if name not in blocking], config)
    gc.collect()
    gc.freeze()  # what is here now is shared by all children; the collector must not touch the pages
    nursery.serve()


def _config(descriptor: int) -> Config:
    """That of the workers which are forked first."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return Config(*msgpack.unpackb(file.read()))


def _preload(control: socket.socket, modules: Sequence[str], config: Config) -> None:
    """Import what is heavy, once for all workers that are forked from now on."""
    threads = _threads()
    for name in modules:
        preload = getattr(importlib.import_module(name), "preload", None)
        if preload is not None:
            try:
                preload(config.shown(name))
            except Exception as error:  # noqa: BLE001 - the handler reports it again where it counts: in the task
                wire.send_packet(control, [wire.NOTE, f"{name}.preload() failed: {error}"])
        if _threads() > threads:
            threads = _threads()
            note = f"the handler module {name} starts threads when it is imported: workers are started by exec, not by fork"
            wire.send_packet(control, [wire.NOTE, note])


def _threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


class Nursery:
    """Forks and reaps until the daemon closes the control socket."""

    def __init__(self, control: socket.socket, handlers: Mapping[str, Handler], *, lease: int) -> None:
        self._control = control
        self._handlers = handlers
        self._lease = lease
        self._later: list[tuple[Any, ...]] = []  # coroutine workers, asked for before all was loaded
        self._wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve_blocking(self) -> None:
        """Fork the blocking workers of those that are asked for at once, and keep the rest for `serve`."""
        patience = _FIRST_WORD
        while select.select([self._control.fileno()], [], [], patience)[0]:
            message, descriptors = wire.receive_packet(self._control)
            if message is None:
                raise BrokenPipeError  # the daemon is gone
            if message[2] == Kind.BLOCKING:
                self._fork(*message[1:], *descriptors)
            else:
                self._later.append((*message[1:], *descriptors))
            patience = _NEXT_WORD

    def serve(self) -> None:
        for wish in self._later:
            self._fork(*wish)
        self._later.clear()
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._wake], [], [])
            if self._wake in readable:
                os.read(self._wake, 4096)
                self._reap()
            if self._control.fileno() in readable:
                message, descriptors = wire.receive_packet(self._control)
                if message is None:
                    return
                self._fork(*message[1:], *descriptors)

    def _fork(self, name: str, kind: int, channel: int, tickets: int, *output: int) -> None:
        try:
            if _threads() > 1:
                pid = self._exec(name, kind, channel, tickets, output)
            else:
                parent = os.getpid()
                pid = os.fork()
                if pid == 0:
                    self._child(parent, name, kind, channel, tickets, output)
        except OSError as error:  # the workers that there are go on
            wire.send_packet(self._control, [wire.UNFORKED, name, str(error)])
            return
        finally:
            for descriptor in (channel, tickets, *output):
                os.close(descriptor)
        pidfd = os.pidfd_open(pid)
        wire.send_packet(self._control, [wire.FORKED, name, pid], [pidfd])
        os.close(pidfd)

    def _child(self, parent: int, name: str, kind: int, channel: int, tickets: int, output: Sequence[int]) -> None:
        """What was forked becomes a worker and never returns into the nursery's code."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent(parent)
            become_subreaper()  # what its tasks leave behind stays below it, and ends with it
            self._control.close()
            os.close(self._wake)
            end = socket.socket(fileno=channel)
            run_worker(self._handlers, name, Kind(kind), end, tickets, self._lease, output)
            status = 0
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon is gone; what a handler raises never gets here
        except BaseException:  # noqa: BLE001 - the process ends here, whatever it was
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _exec(self, name: str, kind: int, channel: int, tickets: int, output: Sequence[int]) -> int:
        options = json.dumps(
            {
                "parent": os.getpid(),
                "name": name,
                "kind": kind,
                "channel": channel,
                "tickets": tickets,
                "output": output,
                "argv": sys.argv[2],
            }
        )
        lease: int = json.loads(sys.argv[2])["lease"]
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "gemflowd.executor.local.exec_worker", options],
            pass_fds=(channel, tickets, lease, *output),
        )
        child.returncode = 0  # reaped by wait4 below, not by Popen
        return child.pid

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            wire.send_packet(self._control, [wire.EXITED, pid, status, usage.ru_maxrss])


if __name__ == "__main__":
    with suppress(BrokenPipeError, ConnectionResetError):  # the daemon is gone
        main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what handler modules would do at the interpreter's end is for workers, and takes its time
