"""Task types that take memory, fork, and do not want to end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from waiting import wait_for_file

from gemflowd.handlers.errors import RateLimited
from gemflowd.handlers.registry import task

if TYPE_CHECKING:
    from gemflowd.worker.context import AsyncContext, Context

_KEPT: list[bytes] = []
_MB = 1024 * 1024


@task("whoami")
def whoami(data: dict[str, Any], context: Context) -> int:
    """Say which process this is, after `seconds`, or when the file `until` exists."""
    context.log("begun")
    time.sleep(data.get("seconds", 0))
    if "until" in data:
        wait_for_file(data["until"])
    return os.getpid()


@task("awhoami")
async def awhoami(data: dict[str, Any], context: AsyncContext) -> int:
    """The same in a coroutine."""
    context.log("begun")
    await asyncio.sleep(data.get("seconds", 0))
    return os.getpid()


@task("leak")
def leak(data: dict[str, Any], context: Context) -> int:
    """Keep `mb` for ever."""
    _KEPT.append(b"x" * (data["mb"] * _MB))
    return os.getpid()


@task("eat")
def eat(data: dict[str, Any], context: Context) -> None:
    """Take 10 MB at a time, for ever."""
    while True:
        _KEPT.append(b"x" * (10 * _MB))
        time.sleep(0.005)


@task("aeat")
async def aeat(data: dict[str, Any], context: AsyncContext) -> None:
    """The same in a coroutine."""
    while True:
        _KEPT.append(b"x" * (10 * _MB))
        await asyncio.sleep(0.005)


@task("child-eats")
def child_eats(data: dict[str, Any], context: Context) -> int:
    """A program below this worker takes `mb` and stays for `seconds`."""
    seconds = data.get("seconds", 1000)
    program = f"x = b'x' * ({data['mb']} * {_MB}); import time; time.sleep({seconds})"
    return subprocess.run([sys.executable, "-c", program], check=False).returncode


@task("leave-behind")
def leave_behind(data: dict[str, Any], context: Context) -> int:
    """Leave a process behind in a session of its own, with an empty environment and no descriptors; returns its number."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if (child := os.fork()) != 0:
            os.write(write, str(child).encode())
            os._exit(0)
        os.closerange(0, 256)
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    os.close(write)
    os.wait()
    return int(os.read(read, 100))


@task("busy-in-c")
def busy_in_c(data: dict[str, Any], context: Context) -> None:
    """Hold the interpreter's lock in one long call, whatever came before it."""
    said = False
    while True:
        try:
            if not said:
                said = True
                context.log("begun")
            _ = 3 ** (3**18)
        except BaseException:
            continue


@task("stubborn")
def stubborn(data: dict[str, Any], context: Context) -> None:
    """Swallow every request to stop."""
    said = False
    while True:
        try:
            if not said:
                said = True
                context.log("begun")
            time.sleep(1000)
        except BaseException:
            continue


@task("blocks-signals")
def blocks_signals(data: dict[str, Any], context: Context) -> None:
    """Let no signal through that can be blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    context.log("begun")
    time.sleep(1000)


@task("signalled")
def signalled(data: dict[str, Any], context: Context) -> None:
    """End by a signal of this number."""
    os.kill(os.getpid(), data["number"])


@task("half-deaf")
async def half_deaf(data: dict[str, Any], context: AsyncContext) -> None:
    """Swallow the first request to stop, and end when the file `until` exists."""
    context.log("begun")
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        await asyncio.to_thread(wait_for_file, data["until"])


@task("forks")
async def forks(data: dict[str, Any], context: AsyncContext) -> None:
    """Leave a copy of the worker behind that holds all its descriptors for a while."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(5)
        os._exit(0)
    context.log("begun")
    await asyncio.sleep(1000)


@task("odd-limit")
async def odd_limit(data: dict[str, Any], context: AsyncContext) -> None:
    """Say how long to wait in a way that is no number."""
    raise RateLimited("later", retry_after=timedelta(seconds=3))  # type: ignore[arg-type]


@task("cancels-itself")
async def cancels_itself(data: dict[str, Any], context: AsyncContext) -> None:
    """Wait for something that it has cancelled itself."""
    inner = asyncio.get_running_loop().create_task(asyncio.sleep(1000))
    inner.cancel()
    await inner


async def shutdown() -> None:
    """At the end of a coroutine worker: hang, where the environment says so."""
    if os.environ.get("GREEDY_HANGS"):
        await asyncio.sleep(1000)
