"""The task type `memory`: the shared memory for steps of a plan, and for flows that are written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gemflowd.handlers.agent.schema import MEMORY_DATA
from gemflowd.handlers.registry import task

if TYPE_CHECKING:
    from gemflowd.worker.context import AsyncContext


@task("memory", schema=MEMORY_DATA)
async def memory(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """Keep, read, list or remove a value of the shared memory.

    Data: one of `set` (a key, with `value`), `get`, `delete` and `list` (a prefix); `ttl` in seconds; `namespace`, else that of the
    flow, `flow-N`. Result: `{key, value, …}` or `{items}`.
    """
    space = data.get("namespace") or namespace_of(context)
    if "set" in data:
        version = await context.memory.set(data["set"], data["value"], data.get("ttl"), namespace=space)
        return {"namespace": space, "key": data["set"], "version": version}
    if "delete" in data:
        deleted = await context.memory.delete(data["delete"], namespace=space)
        return {"namespace": space, "key": data["delete"], "deleted": deleted}
    if "list" in data:
        items = await context.memory.list(data["list"], space, values=True, limit=1_000)
        return {"namespace": space, "items": {item["key"]: item["value"] for item in items}}
    entry = await context.memory.entry(data["get"], space)
    return {
        "namespace": space,
        "key": data["get"],
        "value": None if entry is None else entry["value"],
        "found": entry is not None,
    }


def namespace_of(context: AsyncContext) -> str:
    """That of the task's flow."""
    return f"flow-{context.flow}"
