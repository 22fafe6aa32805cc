"""The Python client, blocking. `aio.AsyncClient` is the same in asyncio.

    with Client() as gemflow:
        flow = gemflow.submit_batch([{"id": "a", "task": "Research topic A", "agent": "researcher"}])
        for result in flow.as_completed():
            print(result.id, result.ok, result.value)

What an operation says and how long ones go step by step is in `ops.py` and its neighbours; `driver.py` carries the steps out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Self

from gemflowctl import following, ops, paging, pouring, submission, waiting
from gemflowctl.defaults import REPLY_TIMEOUT, RESTART_PATIENCE
from gemflowctl.driver import Driver
from gemflowctl.handles import BaseFlow, BaseTask
from gemflowctl.interrupt import Interrupt
from gemflowctl.listener import Listener
from gemflowctl.peer import check_endpoint
from gemflowctl.refs import RefLike, Refs
from gemflowctl.results import Result, from_line
from gemflowctl.steps import Bodies, Body
from gemflowctl.stored import StoredThings
from gemflowd.protocol.endpoints import default_endpoint


class Client(StoredThings):
    """One daemon. Connects when it is first used. Not safe to share between threads: make one for each.

    Args:
        endpoint: `ipc://…`; by default `GEMFLOW_ENDPOINT`, else the user's own daemon, else the system's.
        reply_timeout: seconds for one try of a request. What is safe to repeat is tried three times.
        restart_patience: seconds to wait for a daemon that answered before and went away (a restart).

    Raises:
        InvalidInput: the endpoint can't be one. Every method also raises `NoDaemon`, `RefusedByDaemon`, `ReplyTimeout`.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        reply_timeout: float = REPLY_TIMEOUT,
        restart_patience: float = RESTART_PATIENCE,
        _interrupt: Interrupt | None = None,
    ) -> None:
        self.endpoint = check_endpoint(endpoint or default_endpoint())
        self._options = {"reply_timeout": reply_timeout, "restart_patience": restart_patience}
        self._listeners: list[Listener] = []
        self._driver = Driver(self.endpoint, **self._options, interrupt=_interrupt)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the callbacks of `on` and close the sockets. Tasks run on."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._driver.close()

    # The daemon

    def hello(self) -> Body:
        """Version, process id, limits and events endpoint of the daemon."""
        return self._driver.call(ops.hello())

    def ping(self) -> float:
        """The daemon's time, in seconds since the epoch."""
        return float(self._driver.call(ops.ping())["now"])

    def shutdown(self, *, drain: bool = True) -> Body:
        """Stop the daemon; with `drain` what runs may end first."""
        return self._driver.call(ops.shutdown(drain))

    def workers(self, count: int | None = None) -> Body:
        """The workers; with `count` their number is changed."""
        return self._driver.call(ops.workers(count))

    def profile(self, name: str | None = None) -> Body:
        """The profile in use and its values; with `name` it is changed."""
        return self._driver.call(ops.profile(name))

    def restart_workers(self) -> Body:
        """Replace every worker by a fresh one, one after the other: `{restarting}`. What runs ends first."""
        return self._driver.call(ops.restart_workers())

    def config(
        self,
        set: Mapping[str, Any] | None = None,  # noqa: A002
        reset: Sequence[str] | None = None,
        *,
        reset_all: bool = False,
    ) -> Bodies:
        """All settings, after changing some and giving back others (with `reset_all` all) to what the layers below say."""
        return self._driver.call(ops.config(set, reset, reset_all))["settings"]  # type: ignore[no-any-return]

    def doctor(self) -> Body:
        """Whether the daemon has what it needs: `{ok, checks: [{check, state, message, remedy}]}`."""
        return self._driver.call(ops.doctor())

    def reload(self) -> Body:
        """Let the daemon read its settings again: `{changed, pending, restarting}`."""
        return self._driver.call(ops.reload())

    def drain(self, *, off: bool = False) -> Body:
        """Let the daemon start nothing more until `off`, or its next start: `{drain, running}`. What runs ends."""
        return self._driver.call(ops.drain(off))

    def handlers(self) -> Body:
        """The task types and personas of the installation: `{handlers, agents}`."""
        return self._driver.call(ops.handlers())

    # Submitting

    def submit(
        self,
        type: str | None = None,  # noqa: A002 - the word of the protocol
        data: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        submission: str | None = None,
        grow: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Task:
        """Submit one task; when it returns, the task is durable.

        Args:
            type: the handler, such as `gemini`, `command` or `echo`; None for the short form `task=…, agent=…`.
            data: its input.
            name: of the flow that the task makes.
            submission: a UUID of your own; repeating it does not submit twice.
            grow: as in `submit_batch`.
            fields: the other fields of a task, as docs/protocol.md lists them (`priority`, `deps`, `when`, `key`,
                `resources`, …). `deps` may hold handles, `run_at` and `expires` may be a datetime with a zone. When `key` is
                taken, the task that has it is returned.
        """
        return self.submit_batch(
            [_task_fields(type, data, fields)],
            name=name,
            submission=submission,
            grow=grow,
        ).only_task()

    def submit_batch(
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
    ) -> Flow:
        """Submit a flow, in chunks if it is large; stored whole or not at all, unless it streams.

        Args:
            tasks: as docs/protocol.md describes them. A large flow is sorted so that dependencies come first.
            weight: the flow's share beside flows of equal priority, 1 if not given.
            order: `fair`, or `critical-path`: the longest remaining path first.
            max_errors: when so many of its tasks have failed, the rest is held; None: never.
            stream: what has arrived runs before the rest has.
            grow: add to the flow of a running task instead of making one: `{task, token, step}`, of which the attempt's
                environment has the first two (`{}` is enough inside of a task). The same `step` adds once.
            budget: what its model calls may use: `{money?, tokens?, action?}`.
            submission: a UUID of your own; with one that the daemon knows it goes on where it stopped receiving.
            progress: called with the tasks received and the total after every chunk.
        """
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
        return Flow(self, self._driver.finish(_submission_steps(tasks, about, uuid=submission, progress=progress)))

    def submit_from(
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
    ) -> Flow:
        """Submit tasks while they come, without holding them all: in their order, a dependency before what needs it.

        What raises while they are read or sent discards what was received; with `stream` that stays and runs.

        Args:
            tasks: any iterable; None among them sends what has come so far. The others as in `submit_batch`.
            submission: a UUID of your own; with one that the daemon knows, the tasks that it has received are skipped.
            progress: called with the number of tasks received after every chunk.
        """
        about = _about_flow(
            name=name,
            metadata=metadata,
            weight=weight,
            order=order,
            stream=stream,
            max_errors=max_errors,
            budget=budget,
        )
        return Flow(self, self._driver.finish(pouring.pour(tasks, about, uuid=submission, progress=progress)))

    def submission(self, submission: str) -> Body:
        """How far the daemon received a submission: `{flow, state, received}`."""
        return self._driver.call(ops.submission(submission))

    def discard(self, submission: str) -> Body:
        """Remove a flow that was not received as a whole."""
        return self._driver.call(ops.discard(submission))

    # Looking

    def status(self, refs: Refs | None = None) -> Body:
        """The daemon's status, or with `refs` `{items}` of tasks and flows."""
        return self._driver.call(ops.status(refs))

    def stats(self) -> Body:
        """The figures of the moment."""
        return self._driver.call(ops.stats())

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
    ) -> Iterator[Body]:
        """Tasks by number, fetched page by page. `since` is in seconds since the epoch; of `metadata` all keys must match."""
        return self._driver.emitted(
            paging.list_tasks(limit, state=state, type=type, queue=queue, flow=flow, since=since, metadata=metadata)
        )

    def show(self, ref: RefLike) -> Body:
        """All that is known of one task or flow."""
        return self._driver.call(ops.show(ref))

    def explain(self, ref: RefLike) -> Body:
        """Why a task is not running: `{number, flow, state, runnable, reasons}`, the nearest reason first."""
        return self._driver.call(ops.explain(ref))

    def results(self, refs: Refs) -> Iterator[Result]:
        """Results of what has ended, in order of submission, fetched page by page."""
        return map(from_line, self._driver.emitted(paging.results(refs)))

    def follow(
        self,
        flow: RefLike,
        *,
        as_completed: bool = False,
        after: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Iterator[Result]:
        """Each result of a flow once, as it can be had, until all of it has ended and nothing can be added.

        Args:
            as_completed: in the order in which they end, and not of submission.
            after: in order of submission only: begin behind the task with this number.
            progress: called now and then with the tasks that have ended, and with all.
        """
        steps = following.flow_results(self.endpoint, flow, as_completed=as_completed, after=after, progress=progress)
        return map(from_line, self._driver.emitted(steps))

    def logs(self, ref: RefLike, *, follow: bool = False, after: int = 0) -> Iterator[Body]:
        """Lines of a task's output; with `follow` until it has ended."""
        return self._driver.emitted(paging.logs(ref, follow, after))

    # Acting

    def wait(
        self,
        refs: Refs,
        any: bool = False,  # noqa: A002 - the word of the protocol
        timeout: float | None = None,
        *,
        progress: Callable[[Body], object] | None = None,
    ) -> Body:
        """Wait until all (with `any`: one) have ended: `{done, total, ended, tasks}`.

        Args:
            timeout: seconds; None waits for ever.
            progress: called with the same about twice a second.

        Raises:
            WaitTimeout: they did not end in time. They run on.
        """
        return self._driver.finish(waiting.wait(refs, any, timeout, progress))

    def cancel(self, refs: Refs) -> Body:
        """Cancel: `{cancelled, requested, unchanged}`."""
        return self._driver.call(ops.cancel(refs))

    def retry(self, refs: Refs, *, downstream: bool = False) -> Body:
        """Put back what ended without success: `{retried, unchanged}`."""
        return self._driver.call(ops.retry(refs, downstream))

    def hold(self, refs: Refs) -> Body:
        """Keep what waits from starting, until `release`: `{held, unchanged}`."""
        return self._driver.call(ops.hold(refs))

    def release(self, refs: Refs) -> Body:
        """Let what was held wait on as before: `{released, unchanged}`."""
        return self._driver.call(ops.release(refs))

    def edit(self, refs: Refs, *, priority: int) -> Body:
        """Give what has not ended another priority: `{edited, unchanged}`."""
        return self._driver.call(ops.edit(refs, priority))

    def delete(self, refs: Refs) -> Body:
        """Delete what has ended, with results, logs and history: `{deleted}`."""
        return self._driver.call(ops.delete(refs))

    # Events

    def events(self, topics: Sequence[str] = (), *, start: int | None = None, follow: bool = True) -> Iterator[Body]:
        """Events without gaps or repeats: with `follow` for ever, else the stored ones.

        Args:
            topics: prefixes such as `task` or `task.failed`; none means all stored ones.
            start: the first number wanted (`seq`); None means from now on, without `follow` from the first.
        """
        return self._driver.emitted(following.events(self.endpoint, tuple(topics), start, follow))

    def next_event(self) -> int:
        """The number that the next event will have."""
        return self._driver.call(ops.subscribe(()))["next"]  # type: ignore[no-any-return]

    def on(self, topic: str, callback: Callable[[Body], object]) -> Callable[[], None]:
        """Call back for every event of a topic (`stats`, `task`, `task.failed`, `worker`, …), on a thread of its own.

        What the callback raises is logged. Returns a function that ends it; `close` does, too.
        """

        def follow(interrupt: Interrupt) -> None:
            with (
                Client(self.endpoint, **self._options, _interrupt=interrupt) as own,
                closing(own._driver.emitted(following.events(own.endpoint, (topic,), None, True))) as events,
            ):
                listener.feed(events)

        # What can't work is said here and not on the thread.
        self._driver.call(ops.ping())
        listener = Listener(f"gemflow: {topic}", callback)
        self._listeners.append(listener)
        listener.start(follow)
        return listener.close


# Inside the class `list` is a method and `submit` an operation.
_submission_steps = submission.submit
_about_flow = submission.about_flow
_task_fields = submission.task_fields


class Task(BaseTask):
    """A task that was submitted. `number` is its number, `flow` that of its flow."""

    def __init__(self, client: Client, number: int, flow: int, id: str | int | None = None) -> None:  # noqa: A002
        super().__init__(number, flow, id)
        self._client = client

    def result(self, timeout: float | None = None) -> Result:
        """Wait for it, at most `timeout` seconds, and return what it came to.

        Raises:
            WaitTimeout: it did not end in time.
        """
        return self._client._driver.finish(waiting.result(self.ref, timeout))

    def wait(self, timeout: float | None = None) -> Body:
        """As `Client.wait`."""
        return self._client.wait(self.ref, timeout=timeout)

    def show(self) -> Body:
        """As `Client.show`."""
        return self._client.show(self.ref)

    def logs(self, *, follow: bool = False) -> Iterator[Body]:
        """As `Client.logs`."""
        return self._client.logs(self.ref, follow=follow)

    def cancel(self) -> Body:
        """As `Client.cancel`."""
        return self._client.cancel(self.ref)

    def retry(self, *, downstream: bool = False) -> Body:
        """As `Client.retry`."""
        return self._client.retry(self.ref, downstream=downstream)


class Flow(BaseFlow):
    """A flow that was submitted. `number` is its number, `submission` its UUID, `count` how many tasks it was given."""

    def __init__(self, client: Client, reply: Body) -> None:
        super().__init__(reply)
        self._client = client

    def only_task(self) -> Task:
        """The task of a flow of one."""
        return Task(self._client, self.first_number(), self.number)

    def as_completed(self) -> Iterator[Result]:
        """Each result once, soon after its task has ended."""
        return self._client.follow(self.ref, as_completed=True)

    def wait(self, timeout: float | None = None) -> Body:
        """As `Client.wait`."""
        return self._client.wait(self.ref, timeout=timeout)

    def results(self) -> Iterator[Result]:
        """The results of all in order of submission, each as soon as it and all before it have ended."""
        return self._client.follow(self.ref)

    def status(self) -> Body:
        """As `Client.status` of this flow."""
        return self._client.status(self.ref)["items"][0]  # type: ignore[no-any-return]

    def cancel(self) -> Body:
        """As `Client.cancel`."""
        return self._client.cancel(self.ref)

    def retry(self, *, downstream: bool = False) -> Body:
        """As `Client.retry`."""
        return self._client.retry(self.ref, downstream=downstream)
