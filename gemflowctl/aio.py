"""The Python client in asyncio: the same methods as `client.Client`, awaited, and generators to iterate with `async for`.

async with AsyncClient() as gemflow:
    task = await gemflow.submit("echo", {"text": "hello"})
    print((await task.result()).value)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from inspect import isawaitable
from typing import Any, Self

from gemflowctl import following, ops, paging, pouring, submission, waiting
from gemflowctl.aio_driver import AsyncDriver
from gemflowctl.aio_stored import AsyncStoredThings
from gemflowctl.defaults import REPLY_TIMEOUT, RESTART_PATIENCE
from gemflowctl.errors import ClientError
from gemflowctl.handles import BaseFlow, BaseTask
from gemflowctl.peer import check_endpoint
from gemflowctl.refs import RefLike, Refs
from gemflowctl.results import Result
from gemflowctl.steps import Bodies, Body
from gemflowd.protocol.endpoints import default_endpoint

_log = logging.getLogger("gemflowctl")


class AsyncClient(AsyncStoredThings):
    """One daemon, for one event loop; any number of coroutines may share it. Arguments and errors as `Client`."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        reply_timeout: float = REPLY_TIMEOUT,
        restart_patience: float = RESTART_PATIENCE,
    ) -> None:
        self.endpoint = check_endpoint(endpoint or default_endpoint())
        self._driver = AsyncDriver(self.endpoint, reply_timeout=reply_timeout, restart_patience=restart_patience)
        self._callbacks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """As `Client.close`."""
        callbacks = list(self._callbacks)
        for task in callbacks:
            task.cancel()
        await asyncio.gather(*callbacks, return_exceptions=True)
        await self._driver.close()

    # The daemon

    async def hello(self) -> Body:
        """As `Client.hello`."""
        return await self._driver.call(ops.hello())

    async def ping(self) -> float:
        """As `Client.ping`."""
        return float((await self._driver.call(ops.ping()))["now"])

    async def shutdown(self, *, drain: bool = True) -> Body:
        """As `Client.shutdown`."""
        return await self._driver.call(ops.shutdown(drain))

    async def workers(self, count: int | None = None) -> Body:
        """As `Client.workers`."""
        return await self._driver.call(ops.workers(count))

    async def profile(self, name: str | None = None) -> Body:
        """As `Client.profile`."""
        return await self._driver.call(ops.profile(name))

    async def restart_workers(self) -> Body:
        """As `Client.restart_workers`."""
        return await self._driver.call(ops.restart_workers())

    async def config(
        self,
        set: Mapping[str, Any] | None = None,  # noqa: A002
        reset: Sequence[str] | None = None,
        *,
        reset_all: bool = False,
    ) -> Bodies:
        """As `Client.config`."""
        return (await self._driver.call(ops.config(set, reset, reset_all)))["settings"]  # type: ignore[no-any-return]

    async def doctor(self) -> Body:
        """As `Client.doctor`."""
        return await self._driver.call(ops.doctor())

    async def reload(self) -> Body:
        """As `Client.reload`."""
        return await self._driver.call(ops.reload())

    async def drain(self, *, off: bool = False) -> Body:
        """As `Client.drain`."""
        return await self._driver.call(ops.drain(off))

    async def handlers(self) -> Body:
        """As `Client.handlers`."""
        return await self._driver.call(ops.handlers())

    # Submitting

    async def submit(
        self,
        type: str | None = None,  # noqa: A002
        data: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        submission: str | None = None,
        grow: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> AsyncTask:
        """As `Client.submit`."""
        task = _task_fields(type, data, fields)
        return (await self.submit_batch([task], name=name, submission=submission, grow=grow)).only_task()

    async def submit_batch(
        self,
        tasks: Sequence[Mapping[str, Any]],
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        weight: float | None = None,
        order: str | None = None,
        max_errors: int | None = None,
        stream: bool = False,
        grow: Mapping[str, Any] | None = None,
        budget: Mapping[str, Any] | None = None,
        submission: str | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> AsyncFlow:
        """As `Client.submit_batch`."""
        about = _about_flow(
            name=name,
            metadata=metadata,
            weight=weight,
            order=order,
            stream=stream,
            max_errors=max_errors,
            grow=grow,
            budget=budget,
        )
        steps = _submission_steps(tasks, about, uuid=submission, progress=progress)
        return AsyncFlow(self, await self._driver.finish(steps))

    async def submit_from(
        self,
        tasks: Iterable[Mapping[str, Any] | None],
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        weight: float | None = None,
        order: str | None = None,
        max_errors: int | None = None,
        stream: bool = False,
        budget: Mapping[str, Any] | None = None,
        submission: str | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> AsyncFlow:
        """As `Client.submit_from`; `tasks` is iterated in the loop, so that what it waits for keeps others waiting."""
        about = _about_flow(
            name=name,
            metadata=metadata,
            weight=weight,
            order=order,
            stream=stream,
            max_errors=max_errors,
            budget=budget,
        )
        steps = pouring.pour(tasks, about, uuid=submission, progress=progress)
        return AsyncFlow(self, await self._driver.finish(steps))

    async def submission(self, submission: str) -> Body:
        """As `Client.submission`."""
        return await self._driver.call(ops.submission(submission))

    async def discard(self, submission: str) -> Body:
        """As `Client.discard`."""
        return await self._driver.call(ops.discard(submission))

    # Looking

    async def status(self, refs: Refs | None = None) -> Body:
        """As `Client.status`."""
        return await self._driver.call(ops.status(refs))

    async def stats(self) -> Body:
        """As `Client.stats`."""
        return await self._driver.call(ops.stats())

    def list(
        self,
        *,
        state: str | None = None,
        type: str | None = None,  # noqa: A002
        queue: str | None = None,
        flow: int | None = None,
        since: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Body]:
        """As `Client.list`."""
        return self._driver.emitted(
            paging.list_tasks(limit, state=state, type=type, queue=queue, flow=flow, since=since, metadata=metadata)
        )

    async def show(self, ref: RefLike) -> Body:
        """As `Client.show`."""
        return await self._driver.call(ops.show(ref))

    async def explain(self, ref: RefLike) -> Body:
        """As `Client.explain`."""
        return await self._driver.call(ops.explain(ref))

    def results(self, refs: Refs) -> AsyncIterator[Result]:
        """As `Client.results`."""
        return self._driver.results(paging.results(refs))

    def follow(
        self,
        flow: RefLike,
        *,
        as_completed: bool = False,
        after: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> AsyncIterator[Result]:
        """As `Client.follow`."""
        steps = following.flow_results(self.endpoint, flow, as_completed=as_completed, after=after, progress=progress)
        return self._driver.results(steps)

    def logs(self, ref: RefLike, *, follow: bool = False, after: int = 0) -> AsyncIterator[Body]:
        """As `Client.logs`."""
        return self._driver.emitted(paging.logs(ref, follow, after))

    # Acting

    async def wait(
        self,
        refs: Refs,
        any: bool = False,  # noqa: A002
        timeout: float | None = None,
        *,
        progress: Callable[[Body], object] | None = None,
    ) -> Body:
        """As `Client.wait`."""
        return await self._driver.finish(waiting.wait(refs, any, timeout, progress))

    async def cancel(self, refs: Refs) -> Body:
        """As `Client.cancel`."""
        return await self._driver.call(ops.cancel(refs))

    async def retry(self, refs: Refs, *, downstream: bool = False) -> Body:
        """As `Client.retry`."""
        return await self._driver.call(ops.retry(refs, downstream))

    async def hold(self, refs: Refs) -> Body:
        """As `Client.hold`."""
        return await self._driver.call(ops.hold(refs))

    async def release(self, refs: Refs) -> Body:
        """As `Client.release`."""
        return await self._driver.call(ops.release(refs))

    async def edit(self, refs: Refs, *, priority: int) -> Body:
        """As `Client.edit`."""
        return await self._driver.call(ops.edit(refs, priority))

    async def delete(self, refs: Refs) -> Body:
        """As `Client.delete`."""
        return await self._driver.call(ops.delete(refs))

    # Events

    def events(
        self, topics: Sequence[str] = (), *, start: int | None = None, follow: bool = True
    ) -> AsyncIterator[Body]:
        """As `Client.events`."""
        return self._driver.emitted(following.events(self.endpoint, tuple(topics), start, follow))

    async def next_event(self) -> int:
        """As `Client.next_event`."""
        return (await self._driver.call(ops.subscribe(())))["next"]  # type: ignore[no-any-return]

    def on(self, topic: str, callback: Callable[[Body], Awaitable[object] | object]) -> Callable[[], None]:
        """Call back for every event of a topic, in a task of the running loop; a coroutine is awaited.

        What the callback raises is logged. Returns a function that ends it; `close` does, too.
        """
        task = asyncio.create_task(self._call_back(topic, callback), name=f"gemflow: {topic}")
        self._callbacks.add(task)
        task.add_done_callback(self._callbacks.discard)

        def stop() -> None:
            task.cancel()

        return stop

    async def _call_back(self, topic: str, callback: Callable[[Body], Awaitable[object] | object]) -> None:
        try:
            async with aclosing(self._driver.emitted(following.events(self.endpoint, (topic,), None, True))) as events:
                async for event in events:
                    try:
                        outcome = callback(event)
                        if isawaitable(outcome):
                            await outcome
                    except Exception:  # noqa: BLE001 - it is the user's code; the traceback goes to the log
                        _log.exception("gemflow: %s: the callback failed", topic)
        except ClientError as error:
            _log.error("gemflow: %s: no more events: %s", topic, error)


_submission_steps = submission.submit
_about_flow = submission.about_flow
_task_fields = submission.task_fields


class AsyncTask(BaseTask):
    """As `Task`, awaited."""

    def __init__(self, client: AsyncClient, number: int, flow: int, id: str | int | None = None) -> None:  # noqa: A002
        super().__init__(number, flow, id)
        self._client = client

    async def result(self, timeout: float | None = None) -> Result:
        """As `Task.result`."""
        return await self._client._driver.finish(waiting.result(self.ref, timeout))

    async def wait(self, timeout: float | None = None) -> Body:
        """As `Client.wait`."""
        return await self._client.wait(self.ref, timeout=timeout)

    async def show(self) -> Body:
        """As `Client.show`."""
        return await self._client.show(self.ref)

    def logs(self, *, follow: bool = False) -> AsyncIterator[Body]:
        """As `Client.logs`."""
        return self._client.logs(self.ref, follow=follow)

    async def cancel(self) -> Body:
        """As `Client.cancel`."""
        return await self._client.cancel(self.ref)

    async def retry(self, *, downstream: bool = False) -> Body:
        """As `Client.retry`."""
        return await self._client.retry(self.ref, downstream=downstream)


class AsyncFlow(BaseFlow):
    """As `Flow`, awaited."""

    def __init__(self, client: AsyncClient, reply: Body) -> None:
        super().__init__(reply)
        self._client = client

    def only_task(self) -> AsyncTask:
        """The task of a flow of one."""
        return AsyncTask(self._client, self.first_number(), self.number)

    def as_completed(self) -> AsyncIterator[Result]:
        """As `Flow.as_completed`."""
        return self._client.follow(self.ref, as_completed=True)

    async def wait(self, timeout: float | None = None) -> Body:
        """As `Client.wait`."""
        return await self._client.wait(self.ref, timeout=timeout)

    def results(self) -> AsyncIterator[Result]:
        """As `Flow.results`."""
        return self._client.follow(self.ref)

    async def status(self) -> Body:
        """As `Flow.status`."""
        return (await self._client.status(self.ref))["items"][0]  # type: ignore[no-any-return]

    async def cancel(self) -> Body:
        """As `Client.cancel`."""
        return await self._client.cancel(self.ref)

    async def retry(self, *, downstream: bool = False) -> Body:
        """As `Client.retry`."""
        return await self._client.retry(self.ref, downstream=downstream)
