"""The task type `memory`: the shared memory for flows and models. What it keeps, and how, is the daemon's (docs/protocol.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.errors import Permanent, RequestRefused
from gemflowd.handlers.outcomes import FIELD, told_async
from gemflowd.handlers.registry import task

if TYPE_CHECKING:
    from gemflowd.worker.context import AsyncContext

#: Seconds for which a value stays in a flow's own namespace, where nothing is said: nobody else removes it.
_OWN_TTL: Final = 7 * 86_400.0
_DEFAULT_LISTED: Final = 100
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 200}
#: operation -> its arguments, those that it needs first.
OPERATIONS: Final[dict[str, tuple[list[str], dict[str, Any]]]] = {
    "get": (["key"], {"key": _NAME}),
    "set": (["key", "value"], {"key": _NAME, "value": {}, "ttl": {"type": "number", "exclusiveMinimum": 0}}),
    "delete": (["key"], {"key": _NAME}),
    "list": ([], {"prefix": {"type": "string", "maxLength": 200}, "limit": {"type": "integer", "minimum": 1, "maximum": 1000}}),
}  # fmt: skip
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["op"],
    "properties": {"op": {"enum": list(OPERATIONS)}},
    "allOf": [
        {
            "if": {"required": ["op"], "properties": {"op": {"const": op}}},
            "then": {
                "required": required,
                "properties": {"op": {}, "namespace": _NAME, **FIELD, **arguments},
                "additionalProperties": False,
            },
        }
        for op, (required, arguments) in OPERATIONS.items()
    ],
}


@task("memory", schema=SCHEMA)
async def memory(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """Read, write, remove or list values of the shared memory.

    Data:
        op: `get` (`key`), `set` (`key`, `value`, `ttl` in seconds), `delete` (`key`) or `list` (`prefix`, `limit`).
        namespace: otherwise the flow's own, `flow-NUMBER`, in which values stay for 7 days where `ttl` says nothing.
        errors_as_result: what goes wrong is the result `{error: {code, message}}`.

    Result: `{key, value, found}`, `{key, version}`, `{key, deleted}` or `{keys}`.

    Raises:
        Permanent: with the code of the refusal, such as `too_large`.
    """
    return await told_async(data, context.attempt, lambda: _carried_out(data, context))


async def _carried_out(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    own = f"flow-{context.flow}"
    namespace = data.get("namespace", own)
    key = data.get("key", "")
    shared = context.memory
    try:
        if data["op"] == "get":
            entry = await shared.entry(key, namespace)
            return {"key": key, "value": None if entry is None else entry["value"], "found": entry is not None}
        if data["op"] == "set":
            ttl = data.get("ttl", _OWN_TTL if namespace == own else None)
            return {"key": key, "version": await shared.set(key, data["value"], ttl=ttl, namespace=namespace)}
        if data["op"] == "delete":
            return {"key": key, "deleted": await shared.delete(key, namespace=namespace)}
        items = await shared.list(data.get("prefix", ""), namespace, limit=data.get("limit", _DEFAULT_LISTED))
        return {"keys": [item["key"] for item in items]}
    except RequestRefused as refused:
        if refused.code == "draining":
            raise
        raise Permanent(refused.message, code=refused.code) from None
