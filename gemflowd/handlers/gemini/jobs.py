"""Batches at Google: the few calls that there are, through the SDK.

Each runs on a thread and a loop of its own: a batch has a thousand questions or answers, and what the SDK makes of them takes a second in
which nothing else of the worker would turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from gemflowd.handlers.errors import Transient
from gemflowd.handlers.gemini import client
from gemflowd.handlers.gemini.credentials import Connection

if TYPE_CHECKING:
    from google.genai import Client, types

T = TypeVar("T")


class Jobs:
    """Every method that is awaited raises what the SDK does."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def scrub(self, text: str) -> str:
        """`text` without the key (`Connection.scrub`)."""
        return self._connection.scrub(text)

    async def send(self, model: str, display_name: str, questions: Sequence[tuple[int, bytes]]) -> str:
        """Make a batch of (task, request as JSON). Returns its name.

        Raises:
            Transient: `bad_response`, it has none.
        """

        async def create(client: Client) -> types.BatchJob:
            from google.genai import types

            source = []
            for task, packed in questions:
                item = types.InlinedRequest.model_validate_json(packed)
                item.metadata = {"key": str(task)}
                source.append(item)
            config = types.CreateBatchJobConfig(display_name=display_name)
            return await client.aio.batches.create(model=model, src=source, config=config)

        job = await self._apart(create)
        if not job.name:
            raise Transient("Gemini has not named the batch", code="bad_response")
        return job.name

    async def named(self, display_name: str) -> str | None:
        """The name of the batch that was sent with this one."""

        async def look(client: Client) -> str | None:
            async for job in await client.aio.batches.list(config={"page_size": 100}):
                if job.display_name == display_name:
                    return job.name
            return None

        return await self._apart(look)

    async def get(self, name: str) -> types.BatchJob:
        return await self._apart(lambda client: client.aio.batches.get(name=name))

    async def cancel(self, name: str) -> types.BatchJob:
        """Ask for its end. Returns what it is then: it may have ended by itself in this moment."""

        async def ask(client: Client) -> types.BatchJob:
            with contextlib.suppress(Exception):
                await client.aio.batches.cancel(name=name)
            return await client.aio.batches.get(name=name)

        return await self._apart(ask)

    async def delete(self, name: str) -> None:
        """If that is possible: Google removes it in time."""
        with contextlib.suppress(Exception):
            await self._apart(lambda client: client.aio.batches.delete(name=name))

    async def _apart(self, step: Callable[[Client], Awaitable[T]]) -> T:
        async def run() -> T:
            try:
                return await step(client.client_for(self._connection))
            finally:
                await client.close()

        return await asyncio.to_thread(lambda: asyncio.run(run()))


def packed(job: types.BatchJob, scrub: Callable[[str], str]) -> list[tuple[int, bytes]]:
    """The answers of a batch as they are stored: (task, JSON). Those without a key of ours are left out.

    Args:
        scrub: takes the API key out of why a question was refused.
    """
    found = []
    for answer in (job.dest.inlined_responses if job.dest else None) or []:
        key = (answer.metadata or {}).get("key", "")
        if key.isdigit() and (answer.response is not None or answer.error is not None):
            if answer.error is not None:
                answer.error.message = answer.error.message and scrub(answer.error.message)
                answer.error.details = answer.error.details and [scrub(str(it)) for it in answer.error.details]
            found.append((int(key), answer.model_dump_json(exclude_none=True).encode("utf-8", "replace")))
    return found
