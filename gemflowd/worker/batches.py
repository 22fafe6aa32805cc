"""Batches as an `async def` handler sees them: `context.batch`. For the `gemini` handlers; docs/architecture.md says how it works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

Body = dict[str, Any]


class AsyncBatch:
    """Every method raises `RequestRefused`. The meaning of each is in `gemflowd.model.batch`."""

    def __init__(self, ask: Callable[[str, Body], Awaitable[Body]]) -> None:
        self._ask = ask

    async def join(self, model: str, request: bytes, until: int) -> None:
        await self._ask("batch_join", {"model": model, "request": request, "until": until})

    async def take(self, *, late: bool = False) -> Body:
        """`{answer}`, `{over}`, `{waits}` or nothing."""
        return await self._ask("batch_take", {"late": late})

    async def begin(self) -> Body:
        return await self._ask("batch_begin", {})

    async def questions(self) -> AsyncIterator[tuple[int, bytes]]:
        after: int | None = 0
        while after is not None:
            page = await self._ask("batch_questions", {"after": after})
            for task, request in page["items"]:
                yield task, request
            after = page["next"]

    async def name(self, name: str) -> None:
        await self._ask("batch_name", {"name": name})

    async def answers(self, answers: Sequence[tuple[int, bytes]]) -> None:
        await self._ask("batch_answers", {"answers": list(answers)})

    async def end(self, reason: str) -> None:
        await self._ask("batch_end", {"reason": reason})
