"""Carries steps out with asyncio; the same rules as `driver.py`, for any number of coroutines of one event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import zmq.asyncio

from gemflowctl.aio_connection import AsyncConnection
from gemflowctl.aio_subscriber import AsyncSubscriber
from gemflowctl.errors import ClientError
from gemflowctl.results import Result, from_line
from gemflowctl.steps import Body, Call, Collect, Emit, Listen, Post, Receive, Step, Steps

T = TypeVar("T")


class AsyncDriver:
    """The sockets of one client. Arguments as `Connection`."""

    def __init__(self, endpoint: str, *, reply_timeout: float, restart_patience: float) -> None:
        self._context = zmq.asyncio.Context()
        self._connection = AsyncConnection(
            self._context, endpoint, reply_timeout=reply_timeout, restart_patience=restart_patience
        )

    async def call(self, call: Call) -> Body:
        """One request and its reply."""
        return await self._connection.call(call)

    async def finish(self, steps: Steps[T]) -> T:
        """Carry all steps out and return what they come to; what they emit is dropped."""
        found: list[T] = []
        async for _ in self._run(steps, found.append):
            pass
        return found[0]

    def emitted(self, steps: Steps[Any]) -> AsyncGenerator[Any]:
        """Carry the steps out as far as the caller iterates."""
        return self._run(steps, lambda _: None)

    async def results(self, steps: Steps[Any]) -> AsyncGenerator[Result]:
        """The same for steps that emit result lines."""
        async with aclosing(self.emitted(steps)) as lines:
            async for line in lines:
                yield from_line(line)

    async def close(self) -> None:
        await self._connection.close()
        self._context.destroy(linger=0)

    async def _run(self, steps: Steps[T], finish: Callable[[T], object]) -> AsyncGenerator[Any]:
        subscribers: list[AsyncSubscriber] = []
        answer: Any = None
        failure: ClientError | None = None
        try:
            while True:
                try:
                    step = steps.send(answer) if failure is None else steps.throw(failure)
                except StopIteration as end:
                    finish(end.value)
                    return
                answer, failure = None, None
                if isinstance(step, Emit):
                    yield step.value
                    continue
                try:
                    answer = await self._carry_out(step, subscribers)
                except ClientError as error:
                    failure = error
        finally:
            steps.close()
            for subscriber in subscribers:
                subscriber.close()

    async def _carry_out(self, step: Step, subscribers: list[AsyncSubscriber]) -> Any:
        match step:
            case Call():
                return await self._connection.call(step)
            case Post(call):
                return await self._connection.post(call)
            case Collect(pending):
                return await self._connection.collect(pending)
            case Listen(endpoint, topics):
                subscribers.append(AsyncSubscriber(self._context, endpoint, topics))
                return None
            case Receive(timeout):
                return await subscribers[-1].receive(timeout)
            case _:
                raise AssertionError(step)
