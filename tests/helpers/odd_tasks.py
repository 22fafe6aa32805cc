"""Task types that misbehave, each in one way."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemflowd.handlers.errors import Again, Instead, Permanent, RateLimited
from gemflowd.handlers.registry import task

if TYPE_CHECKING:
    from gemflowd.worker.context import Context


@task("nap")
def nap(data: dict[str, Any], context: Context) -> str:
    """Sleep for `seconds` in a blocking worker, and say in which process; `say` something first."""
    if "say" in data:
        context.log(data["say"])
    time.sleep(data.get("seconds", 0))
    return f"{os.getpid()}"


@task("who")
def who(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """What it is called, and what its inputs are."""
    return {"id": context.id, "inputs": sorted(context.results)}


@task("fail")
def fail(data: dict[str, Any], context: Context) -> str:
    """Raise until attempt number `until`."""
    if context.attempt < data.get("until", 1_000_000):
        raise RuntimeError(f"attempt {context.attempt} fails")
    return "at last"


@task("refuse")
def refuse(data: dict[str, Any], context: Context) -> str:
    """Fail for good, unless the file `unless` exists."""
    if "unless" in data and Path(data["unless"]).exists():
        return "now it works"
    raise Permanent("it makes no sense", code="senseless")


@task("limited", bucket="limited:{name}")
async def limited(data: dict[str, Any], context: Context) -> int:
    """Be told to come back in `retry_after` seconds, at the first `times` attempts."""
    if context.attempt <= data["times"]:
        raise RateLimited("come back later", retry_after=data["retry_after"])
    return context.attempt


def _die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.Signals[how])


@task("die")
def die(data: dict[str, Any], context: Context) -> None:
    """End the worker: `how` is `exit` or the name of a signal."""
    _die(data["how"])


@task("adie")
async def adie(data: dict[str, Any], context: Context) -> None:
    """The same in a coroutine worker, after `seconds`."""
    await asyncio.sleep(data["seconds"])
    _die(data["how"])


@task("hog")
async def hog(data: dict[str, Any], context: Context) -> None:
    """Block the loop of all neighbours for `seconds`."""
    context.log("blocking")
    await asyncio.sleep(0.05)  # the neighbours start, and the line leaves
    time.sleep(data["seconds"])


@task("deaf")
def deaf(data: dict[str, Any], context: Context) -> None:
    """Swallow every request to stop."""
    context.log("deaf")
    end = time.monotonic() + data["seconds"]
    while time.monotonic() < end:
        try:
            time.sleep(end - time.monotonic())
        except BaseException:
            context.log("did not hear that")


@task("adeaf")
async def adeaf(data: dict[str, Any], context: Context) -> None:
    """The same as a coroutine."""
    context.log("deaf")
    end = time.monotonic() + data["seconds"]
    while time.monotonic() < end:
        try:
            await asyncio.sleep(end - time.monotonic())
        except BaseException:
            context.log("did not hear that")


@task("polite")
async def polite(data: dict[str, Any], context: Context) -> None:
    """Stop when asked, and say so."""
    context.log("waiting")
    try:
        await asyncio.sleep(data["seconds"])
    except asyncio.CancelledError:
        context.log(f"stopping, cancelled={context.cancelled}")
        raise


@task("orphan")
def orphan(data: dict[str, Any], context: Context) -> None:
    """Leaves a child behind that has inherited everything, and dies."""
    if os.fork() == 0:
        time.sleep(data["seconds"])
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not to be read")


class OwnEnd(BaseException):
    pass


@task("odd-end")
async def odd_end(data: dict[str, Any], context: Context) -> Any:
    """Ends in a way that nobody expects."""
    match data["how"]:
        case "unreadable":
            raise Unreadable
        case "own":
            raise OwnEnd
        case "exit":
            raise SystemExit(3)
        case "long":
            raise Permanent("x" * 10_000_000)
        case "usage":
            context.usage["x"] = "\ud800"
            raise Permanent("with usage")
        case "used-list":
            context.usage = [1, 2]  # type: ignore[assignment]
            return "fine"
        case "used-keys":
            context.usage.update({1: 2, "prompt_tokens": 7, "deep": {b"x": 1}, "cost": float("nan"), "y_tokens": 2**63})  # type: ignore[dict-item]
            return {"usage": {"prompt_tokens": 7}}
        case "used-much":
            context.usage["x"] = "y" * 100_000
            raise Permanent("with much usage")
        case "note":
            if context.attempt < 3:
                raise Again("once more", Instead({1: float("nan")} if context.attempt == 1 else object()))
            return "fine"
        case "bucket":
            raise Again("elsewhere", Instead(None, bucket=["x"]))  # type: ignore[arg-type]
        case "nan":
            return {"x": float("nan")}
        case "deep":
            value: Any = 1
            for _ in range(500):
                value = [value]
            return value
        case "keys":
            return {(1, 2): 3}
    return None
