"""Task types that use what their context offers beside the log and the shared memory."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waiting import wait_for_file

from gemflowd.handlers.errors import RequestRefused
from gemflowd.handlers.registry import task

if TYPE_CHECKING:
    from gemflowd.worker.context import AsyncContext, Context


@task("steps")
def steps(data: dict[str, Any], context: Context) -> None:
    """Tell `count` steps as fast as it can, and wait for the file `until`."""
    for number in range(1, data["count"] + 1):
        context.progress(number, data["count"], f"step {number}")
    wait_for_file(data["until"])


@task("asteps")
async def asteps(data: dict[str, Any], context: AsyncContext) -> None:
    """The same as a coroutine."""
    for number in range(1, data["count"] + 1):
        context.progress(number, data["count"], f"step {number}")
    await asyncio.to_thread(wait_for_file, data["until"])


@task("odd-progress")
def odd_progress(data: dict[str, Any], context: Context) -> list[str]:
    """What is no progress."""
    found = []
    for done in (float("nan"), float("inf"), "much", None, 10**400):
        try:
            context.progress(done)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError) as error:
            found.append(type(error).__name__)
    context.progress(2**70, 1, "\ud800" + "x" * 10_000)
    return found


@task("slow-down", bucket="slow:{name}")
def slow_down(data: dict[str, Any], context: Context) -> Any:
    """Put its own limit to sleep, go on, and return how it went."""
    try:
        until = context.limit(data["seconds"])
    except RequestRefused as refused:
        return [refused.code, refused.path]
    if "wait" in data:
        wait_for_file(data["wait"])
    return until


@task("aslow-down", bucket="slow:{name}")
async def aslow_down(data: dict[str, Any], context: AsyncContext) -> float:
    return await context.limit(data["seconds"])


@task("slow-down-nothing")
def slow_down_nothing(data: dict[str, Any], context: Context) -> Any:
    try:
        return context.limit(1)
    except RequestRefused as refused:
        return [refused.code, refused.path]


@task("under-limit", bucket="slow:{name}")
def under_limit(data: dict[str, Any], context: Context) -> float:
    """When it ran."""
    return time.time()


@task("devices")
def devices(data: dict[str, Any], context: Context) -> list[Any]:
    """What it and its subprocesses are shown of the GPUs."""
    code = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"
    environment = context.process_environment()
    theirs = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return [list(context.devices), os.environ.get("CUDA_VISIBLE_DEVICES"), theirs.stdout.strip(), context.memory_mb]


@task("adevices")
async def adevices(data: dict[str, Any], context: AsyncContext) -> list[Any]:
    visible = "CUDA_VISIBLE_DEVICES"
    return [list(context.devices), os.environ.get(visible), context.process_environment().get(visible)]


@task("keep-loop")
async def keep_loop(data: dict[str, Any], context: AsyncContext) -> str:
    """Keep the loop until the file `until` exists; `deep`: in a task of its own."""

    async def keep() -> None:
        wait_for_file(data["until"])

    context.log("keeping")
    await asyncio.sleep(0)
    if data.get("deep"):
        await asyncio.create_task(keep())
    else:
        wait_for_file(data["until"])
    return "gave it back"


@task("isolated", isolate=True)
async def isolated(data: dict[str, Any], context: AsyncContext) -> list[Any]:
    """A coroutine with a worker for itself."""
    await asyncio.sleep(0)
    await context.memory.set("isolated", 1)
    return [os.getpid(), await context.memory.get("isolated")]


@dataclass
class Job:
    number: int
    tags: list[str]
    inner: Job | None = None


@task("job")
def job(data: Job, context: Context) -> Job:
    """A model in, a model out."""
    assert isinstance(data, Job)
    return Job(data.number + 1, ["done", *data.tags], data)
