"""Running a program to its end, or to ours, without leaving a zombie or a process group behind.

The blocking handler that calls this may be interrupted at any instruction, by `AttemptCancelled` raised in the main
thread. Two things follow:

- The fork happens in a thread of its own, so that no interruption can fall between the fork and our knowing of it.
- The leader of the group is reaped last. Until then its number can't be given to anyone else, so the group can be
  signalled without hitting a stranger.

What has left the group (setsid, a second fork) becomes the worker's child when its parents have ended, and is ended when the leader is
reaped: `leftovers`.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import os
import queue
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final

from gemflowd.handlers.errors import AttemptCancelled, Permanent, Transient
from gemflowd.handlers.leftovers import Leftovers

_CHUNK: Final = 256 * 1024
_MAX_LINE: Final = 64 * 1024  # a longer line of standard error is logged in pieces
_GRACE_RESERVE: Final = 1.0  # seconds of the grace time kept for the kill, the reaping and our own report
_SPAWN_WAIT: Final = 5.0  # seconds; only a machine in trouble takes longer to fork


@dataclass(frozen=True, slots=True)
class Program:
    """What to run and under which limits."""

    args: list[str]
    env: dict[str, str]
    cwd: str | None
    stdin: bytes | None
    pass_fds: tuple[int, ...]
    max_output: int  # bytes of standard output
    grace: float  # seconds between being asked to stop and being killed ourselves


class OutputTooLarge(Exception):
    """The program wrote more to standard output than it may; it was killed."""


def run_program(program: Program, *, started: Callable[[int], None], log: Callable[[str], None]) -> tuple[int, bytes]:
    """Run a program to its end.

    Args:
        program: what to run.
        started: told the process's number at once; it leads a process group and session of that number.
        log: given each line of standard error as it comes.

    Returns:
        The exit code (negative: the signal that ended it) and what it wrote to standard output.

    Raises:
        Permanent: it can't be started, and trying again is useless.
        Transient: it can't be started now.
        OutputTooLarge: it wrote more than `max_output` bytes.
        AttemptCancelled: passed on after the group is gone: SIGTERM first, SIGKILL when the grace time is over.
    """
    leftovers = Leftovers()
    spawn = _Spawn(program)
    try:
        process = spawn.start()
        started(process.pid)
        ended = _Conversation(process, spawn.exited, program, log).until_end()
        if not leftovers.end():
            log("[processes that it left could not be ended; they end with the worker]")
        return ended
    except BaseException as error:
        # Whatever it was: a program that nobody reads any more is of no use. Only a cancelled one is asked politely.
        polite = max(0.0, program.grace - _GRACE_RESERVE) if isinstance(error, AttemptCancelled) else 0.0
        _end(spawn, leftovers, polite)
        raise
    finally:
        spawn.close()


class _Spawn:
    """Starts the program in a thread that no interruption of the main thread can reach."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.exited = -1  # a pidfd: readable once the process has ended
        self.error: Exception | None = None
        self.begun = False
        self.abandoned = False
        # SimpleQueue and the bare thread on purpose: those of `threading` are written in Python, and an interruption
        # inside them could leave a lock taken for ever.
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def start(self) -> subprocess.Popen[bytes]:
        self.begun = True
        _thread.start_new_thread(self._run, ())
        self._done.get()
        if self.error is not None:
            raise _explain(self.error, self.program) from self.error
        assert self.process is not None
        return self.process

    def settled(self) -> subprocess.Popen[bytes] | None:
        """The process, if one was or is being started; after this none will be."""
        if self.begun and self.process is None and self.error is None:
            with contextlib.suppress(queue.Empty):
                self._done.get(timeout=_SPAWN_WAIT)
        self.abandoned = True
        return self.process

    def close(self) -> None:
        if self.exited >= 0:
            descriptor, self.exited = self.exited, -1
            os.close(descriptor)

    def _run(self) -> None:
        try:
            process = self._popen()
        except Exception as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            self.error = error
            self._done.put(None)
            return
        try:
            self.exited = os.pidfd_open(process.pid)
            self.process = process
        except OSError as error:  # no descriptor is left
            self.error = error
        if self.abandoned or self.error is not None:
            _kill(process)
            process.wait()
            _close_pipes(process)
        self._done.put(None)

    def _popen(self) -> subprocess.Popen[bytes]:
        program = self.program
        return subprocess.Popen(
            program.args,
            stdin=subprocess.DEVNULL if program.stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=program.cwd,
            env=program.env,
            pass_fds=program.pass_fds,
            # A session and not only a group: without a terminal no program can stop to ask for a password.
            start_new_session=True,
        )


def _explain(error: Exception, program: Program) -> Permanent | Transient:
    name = program.args[0]
    if isinstance(error, OSError) and program.cwd is not None and error.filename == program.cwd:
        return Permanent(f"the directory {program.cwd!r} can't be entered: {error.strerror}", code="not_found")
    if isinstance(error, FileNotFoundError):
        return Permanent(
            f"the program {name!r} was not found: give its full path, or set `cwd` or PATH in `env`", code="not_found"
        )
    if isinstance(error, PermissionError | NotADirectoryError | IsADirectoryError):
        return Permanent(f"the program {name!r} can't be executed: {error.strerror}", code="not_executable")
    if isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        return Permanent(
            f"the program {name!r} can't be executed: it is not a binary of this machine and its first line names no "
            "interpreter (#!)",
            code="not_executable",
        )
    if isinstance(error, OSError) and error.errno in (errno.E2BIG, errno.ENAMETOOLONG, errno.ELOOP):
        return Permanent(f"the program {name!r} can't be started: {error.strerror}", code="bad_arguments")
    if isinstance(error, ValueError):  # a NUL in an argument, a `=` in a variable's name
        return Permanent(f"the program {name!r} can't be started: {error}", code="bad_arguments")
    return Transient(f"the program {name!r} can't be started now: {error}", code="not_started")


class _Conversation:
    """Feeds and reads a running program until it ends. One thread, three pipes, no deadlock."""

    def __init__(
        self, process: subprocess.Popen[bytes], exited: int, program: Program, log: Callable[[str], None]
    ) -> None:
        self.process = process
        self.exited = exited
        self.program = program
        self.log = log
        self.output = bytearray()
        self.line = bytearray()
        self.unsent = memoryview(program.stdin or b"")
        self.selector = selectors.DefaultSelector()

    def until_end(self) -> tuple[int, bytes]:
        process = self.process
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            self._watch(process.stdout, selectors.EVENT_READ, self._read_output)
            self._watch(process.stderr, selectors.EVENT_READ, self._read_log)
            if process.stdin is not None:
                self._watch(process.stdin, selectors.EVENT_WRITE, self._write)
            self.selector.register(self.exited, selectors.EVENT_READ, None)
            while self._step():
                pass
        finally:
            self.selector.close()
        _kill(process)  # what it left running in its group
        # What it wrote before its end is in the pipes; others may hold them open, so this reads what is there.
        self._drain(process.stdout, self._read_output)
        self._drain(process.stderr, self._read_log)
        if self.line:
            self._log_line(self.line)
        _close_pipes(process)
        return process.wait(), bytes(self.output)

    def _step(self) -> bool:
        """Wait for something to happen and see to it. False once the program has ended."""
        running = True
        for key, _ in self.selector.select():
            if key.data is None:
                running = False
            elif not key.data():
                self.selector.unregister(key.fileobj)
                if key.fileobj is self.process.stdin:
                    _close(self.process.stdin)  # so that the program sees the end of its input
        return running

    def _watch(self, pipe: IO[bytes], event: int, act: Callable[[], bool]) -> None:
        os.set_blocking(pipe.fileno(), False)
        self.selector.register(pipe, event, act)

    def _write(self) -> bool:
        """Feed standard input. False when all is sent, or nobody reads it any more, which is the program's right."""
        assert self.process.stdin is not None
        try:
            if self.unsent:
                self.unsent = self.unsent[os.write(self.process.stdin.fileno(), self.unsent[:_CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self.unsent)

    def _read_output(self) -> bool:
        chunk = _read(self.process.stdout)
        if chunk is None:
            return True
        self.output += chunk
        if len(self.output) > self.program.max_output:
            raise OutputTooLarge(
                f"{self.program.args[0]} was stopped after {len(self.output)} bytes of standard output; a result may "
                f"have {self.program.max_output} bytes at most (setting max_result_mb)"
            )
        return bool(chunk)

    def _read_log(self) -> bool:
        chunk = _read(self.process.stderr)
        if chunk is None:
            return True
        self.line += chunk
        *lines, rest = self.line.split(b"\n")
        self.line = rest
        for line in lines:
            self._log_line(line)
        while len(self.line) > _MAX_LINE:
            piece, self.line = self.line[:_MAX_LINE], self.line[_MAX_LINE:]
            self._log_line(piece)
        return bool(chunk)

    def _log_line(self, line: bytearray) -> None:
        self.log(line.decode("utf-8", "replace").rstrip("\r"))

    @staticmethod
    def _drain(pipe: IO[bytes], act: Callable[[], bool]) -> None:
        """Read what is in the pipe now, without waiting for the end of it."""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while selector.select(0) and act():
                pass


def _read(pipe: IO[bytes] | None) -> bytes | None:
    """A chunk, empty at the end, None when there is nothing at the moment."""
    assert pipe is not None
    try:
        return os.read(pipe.fileno(), _CHUNK)
    except BlockingIOError:
        return None


def _end(spawn: _Spawn, leftovers: Leftovers, polite: float) -> None:
    """End the group and what has left it, and reap them, whatever interrupts meanwhile. `polite` seconds lie between TERM and KILL."""
    deadline = time.monotonic() + polite
    while True:
        try:
            process = spawn.settled()
            if process is None:
                return
            _stop(process, spawn.exited, deadline)
            leftovers.end()
        except AttemptCancelled:
            continue  # asked again while at it: the deadline stands
        return


def _stop(process: subprocess.Popen[bytes], exited: int, deadline: float) -> None:
    """May be called again when it was interrupted."""
    if process.returncode is None:
        if process.stdin is not None:
            _close(process.stdin)
        if deadline > time.monotonic():
            _signal(process, signal.SIGTERM)
            _signal(process, signal.SIGCONT)  # a stopped program can't act on TERM before it goes on
            _await_exit(process, exited, deadline)
        _kill(process)
        process.wait()
    _close_pipes(process)


def _await_exit(process: subprocess.Popen[bytes], exited: int, deadline: float) -> None:
    """Wait for the leader's end without reaping it. What it still writes is read, so that it can't hang on that."""
    with selectors.DefaultSelector() as selector:
        selector.register(exited, selectors.EVENT_READ, None)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None and not pipe.closed:
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, pipe)
        while (remaining := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(remaining):
                if key.data is None:
                    return
                if _read(key.data) == b"":
                    selector.unregister(key.fileobj)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the group. Only while the leader is not reaped."""
    assert process.returncode is None
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter: it became another user
        os.killpg(process.pid, number)


def _kill(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGKILL)


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            _close(pipe)


def _close(pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        pipe.close()
