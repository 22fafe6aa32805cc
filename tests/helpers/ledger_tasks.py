"""Task types that write down when they ran, where no daemon can get it wrong: `note` (sync) and `anote` (coroutine).

Each run holds a lock on a file of its task, which the kernel takes away with the process and not before: whoever finds it
held writes `overlap`. The ledger is appended to with O_APPEND, a line by one write, so its order is that of the events.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gemflowd.handlers.registry import task

if TYPE_CHECKING:
    from gemflowd.worker.context import Context


@contextmanager
def _noted(data: dict[str, Any], context: Context) -> Iterator[None]:
    def write(word: str) -> None:
        line = f"{context.task} {context.attempt} {word}\n"
        os.write(ledger, line.encode())

    ledger = os.open(data["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    lock = os.open(f"{data['locks']}/{context.task}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            write("overlap")
        write("start")
        yield
        write("end")
    finally:
        os.close(lock)
        os.close(ledger)


@task("note")
def note(data: dict[str, Any], context: Context) -> int:
    """Take `seconds` in a worker of its own."""
    with _noted(data, context):
        time.sleep(data["seconds"])
    return context.task


@task("anote")
async def anote(data: dict[str, Any], context: Context) -> int:
    """Take `seconds` beside others."""
    with _noted(data, context):
        await asyncio.sleep(data["seconds"])
    return context.task
