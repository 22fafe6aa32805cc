"""The task type `mcp`: one call of a tool that an MCP server of the settings offers. The session is `sessions`' matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.errors import Permanent
from gemflowd.handlers.mcp import sessions
from gemflowd.handlers.mcp.settings import server
from gemflowd.handlers.outcomes import FIELD, told_async
from gemflowd.handlers.registry import task

if TYPE_CHECKING:
    from gemflowd.worker.context import AsyncContext

_MOST_WORDS: Final = 2_000
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "server": {"type": "string", "minLength": 1, "maxLength": 64},
        "tool": {"type": "string", "minLength": 1, "maxLength": 256},
        "arguments": {"type": "object"},
        **FIELD,
    },
    "required": ["server", "tool"],
    "additionalProperties": False,
}


@task("mcp", schema=SCHEMA, bucket="mcp:{server}")
async def mcp(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    """Call a tool of an MCP server, one of those in the settings.

    Data:
        server: its name there.
        tool: the tool's name.
        arguments: a map, checked by the server.
        errors_as_result: what goes wrong is the result `{error: {code, message}}`; what may pass, from the third attempt on.

    Result: `{content: […], text?, structured?}`: the parts in MCP's own form, the texts among them as one, and the value by the tool's
    schema where it has one.

    Raises:
        Permanent: `unknown_server`, `bad_server`, `mcp_missing`, `mcp_error` (the server refuses the call), `tool_error` (the tool failed).
        Transient: `mcp_unreachable`, `timeout`.
    """
    return await told_async(data, context.attempt, lambda: _called(data, context))


async def _called(data: dict[str, Any], context: AsyncContext) -> dict[str, Any]:
    there = server(context.settings, data["server"])
    answer = await sessions.call(there, data["tool"], data.get("arguments") or {}, context.timeout)
    parts = [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in answer.content]
    text = "\n".join(part["text"] for part in parts if part.get("type") == "text")
    if answer.is_error:
        raise Permanent(there.scrub()(text)[:_MOST_WORDS] or "the tool failed without a word", code="tool_error")
    found: dict[str, Any] = {"content": parts}
    if text:
        found["text"] = text
    if answer.structured_content is not None:
        found["structured"] = answer.structured_content
    scrubbed: dict[str, Any] = _each_text(found, there.scrub_answer())
    return scrubbed


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_each_text(key, change): _each_text(item, change) for key, item in value.items()}
    return [_each_text(item, change) for item in value] if isinstance(value, list) else value


async def shutdown() -> None:
    """End the running loop's sessions, before a worker ends."""
    await sessions.close()
