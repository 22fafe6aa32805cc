"""Carries steps out with blocking sockets. Not safe to share between threads."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import zmq

from gemflowctl.connection import Connection
from gemflowctl.errors import ClientError
from gemflowctl.interrupt import Interrupt
from gemflowctl.steps import Body, Call, Collect, Emit, Listen, Post, Receive, Step, Steps
from gemflowctl.subscriber import Subscriber

T = TypeVar("T")


class Driver:
    """The sockets of one client. Arguments as `Connection`."""

    def __init__(
        self, endpoint: str, *, reply_timeout: float, restart_patience: float, interrupt: Interrupt | None = None
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._interrupt = interrupt
        self._connection = Connection(
            self._context,
            endpoint,
            reply_timeout=reply_timeout,
            restart_patience=restart_patience,
            interrupt=interrupt,
        )

    def call(self, call: Call) -> Body:
        """One request and its reply."""
        return self._connection.call(call)

    def finish(self, steps: Steps[T]) -> T:
        """Carry all steps out and return what they come to; what they emit is dropped."""
        running = self._run(steps)
        while True:
            try:
                next(running)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    def emitted(self, steps: Steps[Any]) -> Generator[Any, None, None]:
        """Carry the steps out as far as the caller iterates."""
        yield from self._run(steps)

    def close(self) -> None:
        self._connection.close()
        self._context.destroy(linger=0)

    def _run(self, steps: Steps[T]) -> Generator[Any, None, T]:
        subscribers: list[Subscriber] = []
        answer: Any = None
        failure: ClientError | None = None
        try:
            while True:
                try:
                    step = steps.send(answer) if failure is None else steps.throw(failure)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                answer, failure = None, None
                if isinstance(step, Emit):
                    yield step.value
                    continue
                try:
                    answer = self._carry_out(step, subscribers)
                except ClientError as error:
                    failure = error
        finally:
            steps.close()
            for subscriber in subscribers:
                subscriber.close()

    def _carry_out(self, step: Step, subscribers: list[Subscriber]) -> Any:
        match step:
            case Call():
                return self._connection.call(step)
            case Post(call):
                return self._connection.post(call)
            case Collect(pending):
                return self._connection.collect(pending)
            case Listen(endpoint, topics):
                subscribers.append(Subscriber(self._context, endpoint, topics, self._interrupt))
                return None
            case Receive(timeout):
                return subscribers[-1].receive(timeout)
            case _:
                raise AssertionError(step)
