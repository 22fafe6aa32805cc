"""Task types that ask the daemon for something while they run."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from waiting import wait_for_file

from gemflowd.handlers.errors import RequestRefused
from gemflowd.handlers.registry import task

if TYPE_CHECKING:
    from gemflowd.worker.context import AsyncContext, Context


def _refusal(refused: RequestRefused) -> dict[str, Any]:
    return {"refused": refused.code, "path": refused.path}


@task("remember")
def remember(data: dict[str, Any], context: Context) -> list[Any]:
    """Call methods of the shared memory, `[[name, {argument: value}], …]`, and return what they return."""
    found: list[Any] = []
    for method, arguments in data["calls"]:
        try:
            found.append(getattr(context.memory, method)(**arguments))
        except RequestRefused as refused:
            found.append(_refusal(refused))
    return found


@task("aremember")
async def aremember(data: dict[str, Any], context: AsyncContext) -> list[Any]:
    """The same as a coroutine. `dies`: at the first attempt it takes the worker and all neighbours along before."""
    if data.get("dies") and context.attempt == 1:
        context.log("dying")
        await asyncio.sleep(data["dies"])
        os.kill(os.getpid(), signal.SIGKILL)
    found: list[Any] = []
    for method, arguments in data["calls"]:
        try:
            found.append(await getattr(context.memory, method)(**arguments))
        except RequestRefused as refused:
            found.append(_refusal(refused))
    return found


@task("count")
async def count(data: dict[str, Any], context: AsyncContext) -> int:
    """Add one to `key`, `times` times, by compare and set. Returns how often somebody else was faster."""
    missed = 0
    for _ in range(data["times"]):
        while True:
            entry = await context.memory.entry(data["key"])
            try:
                if entry is None:
                    await context.memory.set(data["key"], 1, version=0)
                else:
                    await context.memory.set(data["key"], entry["value"] + 1, version=entry["version"])
                break
            except RequestRefused as refused:
                if refused.code != "version_mismatch":
                    raise
                missed += 1
    return missed


@task("many-at-once")
async def many_at_once(data: dict[str, Any], context: AsyncContext) -> int:
    """Set `number` values, all requests begun together: more than may be unanswered."""
    versions = await asyncio.gather(
        *(context.memory.set(f"{n:04}", n, namespace="many") for n in range(data["number"]))
    )
    return len(set(versions))


@task("threads")
def threads(data: dict[str, Any], context: Context) -> int:
    """Set values from threads of its own."""

    def work(number: int) -> None:
        for index in range(20):
            context.memory.set(f"{number}-{index}", "x" * 1000, namespace="threads")
            context.log(f"{number} {index}")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(context.memory.list(namespace="threads"))


@task("ask-anything")
def ask_anything(data: dict[str, Any], context: Context) -> Any:
    """An operation that the context has no method for."""
    try:
        return context._ask(data["op"], data.get("body", {}))
    except RequestRefused as refused:
        return _refusal(refused)


@task("lets-through")
def lets_through(data: dict[str, Any], context: Context) -> None:
    context.memory.set("", 1)


_PAST: list[Context] = []


@task("leave")
def leave(data: dict[str, Any], context: Context) -> int:
    """Leave its context behind for `haunt`."""
    _PAST.append(context)
    return os.getpid()


@task("haunt")
def haunt(data: dict[str, Any], context: Context) -> list[Any]:
    """In the same worker: what an attempt that has ended is told when it asks."""
    told: list[Any] = [os.getpid()]
    for ask in (lambda: _PAST[-1].memory.set("late", 1), lambda: _PAST[-1].submit([{"type": "echo"}])):
        try:
            told.append(ask())
        except RequestRefused as refused:
            told.append(_refusal(refused))
    return told


def _branches(data: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Tasks, and a continuation that waits for them and for the task that adds them."""
    names = [f"branch-{index}" for index in range(data["branches"])]
    made: list[dict[str, Any]] = [{"id": name, "type": "echo", "data": {"name": name}} for name in names]
    joined = {"id": "joined", "type": "echo", "data": {"by": data["by"]}, "deps": [*names, {"number": number}]}
    return [*made, joined]


@task("grow")
def grow(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Add tasks to its flow. At the first attempt, after it has added them, it `dies`, `fails` or `hangs`."""
    added = context.submit(_branches(data, context.task), step=data.get("step"))
    context.log("added")
    if context.attempt == 1 and data.get("hangs"):
        time.sleep(60)
    if context.attempt == 1 and data.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if context.attempt == 1 and data.get("fails"):
        raise RuntimeError("after it has added them")
    return added


@task("agrow")
async def agrow(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """The same as a coroutine."""
    added = await context.submit(_branches(data, context.task), step=data.get("step"))
    if context.attempt == 1 and data.get("fails"):
        raise RuntimeError("after it has added them")
    return added


@task("agent")
def agent(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """The agent of docs/handlers.md: looks at what its last round brought, and adds another one, `rounds` times."""
    number = data["round"]
    seen = context.memory.get(f"agent/{context.flow}", default=[])
    if len(seen) <= number:
        context.memory.set(f"agent/{context.flow}", [*seen, number])
    if number == data["rounds"]:
        return {"rounds": context.memory.get(f"agent/{context.flow}")}
    tools = [{"id": f"tool-{number}-{n}", "type": "echo", "data": {"n": n}} for n in range(2)]
    following = {
        "id": f"agent-{number + 1}",
        "type": "agent",
        "data": {"round": number + 1, "rounds": data["rounds"]},
        "deps": [{"number": context.task}, *(tool["id"] for tool in tools)],
    }
    context.submit([*tools, following], step="next")
    return {"round": number}


@task("grow-when-told")
def grow_when_told(data: dict[str, Any], context: Context) -> int:
    """Wait for the file `until`, then read the key `go` and add a task."""
    context.log("waiting")
    wait_for_file(data["until"])
    assert context.memory.get("go")
    return int(context.submit([{"type": "echo"}], step="one")["count"])
