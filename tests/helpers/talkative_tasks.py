"""Task types that write in every way there is."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import logging
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from waiting import wait_for_file

from gemflowd.handlers.registry import task

if TYPE_CHECKING:
    from gemflowd.worker.context import AsyncContext, Context

#: As modules do that set their logging up when they are imported.
_early = logging.getLogger("early")
_early.propagate = False
_early.addHandler(logging.StreamHandler())


def _libc() -> Any:
    return ctypes.CDLL(None)


@task("say")
def say(data: dict[str, Any], context: Context) -> str:
    """Write in the ways that `how` names, one after the other."""
    for number, how in enumerate(data["how"]):
        _say(how, f"{how} {number}", context)
    return f"{os.getpid()}"


def _say(how: str, text: str, context: Context) -> None:
    line = f"{text}\n".encode()
    match how:
        case "print":
            print(text)
        case "error":
            print(text, file=sys.stderr)
        case "unfinished":
            print(text, end="")
        case "log":
            context.log(text)
        case "buffer":
            sys.stdout.buffer.write(line)
        case "original":
            print(text, file=sys.__stdout__)
        case "descriptor":
            os.write(1, line)
        case "descriptor2":
            os.write(2, line)
        case "logging":
            logging.getLogger("some.library").warning(text)
        case "early":
            _early.warning(text)
        case "thread":
            thread = threading.Thread(target=print, args=(text,))
            thread.start()
            thread.join()
        case "program":
            subprocess.run(["echo", text], check=True)
        case "fork":
            if (child := os.fork()) == 0:
                print(text)
                context.log(f"{text} log")
                os._exit(0)
            os.waitpid(child, 0)
        case "c":
            _libc().printf(line)
        case "close":
            os.close(1)
            os.close(2)
        case "close-python":
            sys.stdout.close()
            sys.__stderr__.close()
        case "replace":
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.close(null)
        case "binary":
            os.write(1, bytes(range(256)) + b"\n")
            sys.stdout.buffer.write(b"\xff\xfe\0 end\n")
        case "surrogate":
            print("\ud800 end")
        case "bar":
            for percent in range(0, 101, 10):
                print(f"\r{percent} %", end="", flush=True)
            print()
        case _:
            raise AssertionError(how)


@task("flood")
def flood(data: dict[str, Any], context: Context) -> None:
    """Write `megabytes` in lines of `width`, by `how`."""
    line = "x" * (data["width"] - 1) + "\n"
    piece = line * (1_000_000 // len(line) + 1)
    for _ in range(data["megabytes"]):
        if data["how"] == "print":
            sys.stdout.write(piece)
        else:
            left = memoryview(piece.encode())
            while left:
                left = left[os.write(1, left) :]


@task("leave-child")
def leave_child(data: dict[str, Any], context: Context) -> int:
    """Leave a child behind that goes on writing until the file `until` exists."""
    child = os.fork()
    if child == 0:
        os.write(1, b"child begins\n")
        wait_for_file(data["until"])
        os.write(1, b"child ends\n")
        os._exit(0)
    return os.getpid()


@task("return-twice")
def return_twice(data: dict[str, Any], context: Context) -> str:
    """A child of it returns as well."""
    child = os.fork()
    if child == 0:
        return "the copy"
    os.waitpid(child, 0)
    return "the original"


@task("crash")
def crash(data: dict[str, Any], context: Context) -> None:
    """Write, and end in one blow."""
    print("before in Python")
    os.write(1, b"before by descriptor\n")
    if data["how"] == "segfault":
        faulthandler._sigsegv()
    os.kill(os.getpid(), signal.Signals[data["how"]])


@task("acrash")
async def acrash(data: dict[str, Any], context: AsyncContext) -> None:
    """The same as a coroutine."""
    print("before in Python")
    await asyncio.sleep(data.get("seconds", 0))
    faulthandler._sigsegv()


@task("hold-the-lock")
def hold_the_lock(data: dict[str, Any], context: Context) -> str:
    """C code that keeps the interpreter's lock and writes more than a pipe holds, and stays for a while."""
    write = ctypes.PyDLL(None).write
    for _ in range(data["kilobytes"]):
        write(1, b"y" * 1023 + b"\n", 1024)
    ctypes.PyDLL(None).usleep(int(data.get("seconds", 0) * 1e6))
    return "through"


@task("asay")
async def asay(data: dict[str, Any], context: AsyncContext) -> None:
    """As a coroutine, in pieces, so that its neighbours come between."""
    for number in range(data["lines"]):
        print(data["name"], end=" ")
        await asyncio.sleep(0)
        print(number)
        print(data["name"], "error", number, file=sys.stderr)
        context.log(f"{data['name']} log {number}")

    async def child() -> None:
        print(data["name"], "child")

    await asyncio.create_task(child())
    await asyncio.to_thread(print, data["name"], "thread")
    _early.warning("%s early", data["name"])
    print(data["name"], "unfinished", end="")
