"""Runs the parts of a benchmark on a daemon that others use meanwhile, and leaves nothing behind.

Its tasks are in a queue of their own, whose limit says how many run at a time: nothing that concerns others changes, and they
compete for slots with everything else like any task. The queue's name is always the same, because the daemon keeps a lane for
each name for good. So only one benchmark may run at a time, and whoever runs it may remove what it finds in that queue: a
benchmark that was killed left it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from gemflowctl.benchmark.kinds import Kind, Machine, Part, at_once, part_of, tasks_of
from gemflowctl.errors import ClientError, RefusedByDaemon, WaitTimeout
from gemflowctl.steps import Body
from gemflowctl.submission import new_uuid

if TYPE_CHECKING:
    from gemflowctl.client import Client

QUEUE: Final = "gemflowctl-benchmark"
#: Seconds of one wait, after which the bar moves, and between two looks whether anything may still start.
_POLL: Final = 0.25
_LOOK: Final = 1.0
#: Seconds that what was cancelled is given to end.
_END: Final = 30.0
_WARM_UP: Final = 0.01

#: Called with how many tasks of a part have ended.
Progress = Callable[[int], object]


class Bench:
    """One run. Every method raises `ClientError`."""

    def __init__(self, client: Client, tasks: int, seconds: float, workers: int) -> None:
        self._client = client
        self._tasks = tasks
        self._seconds = seconds
        self._workers = workers
        self._submissions: list[str] = []
        self.machine = _machine(client)
        #: Tasks of others that run now.
        self.others = int(client.stats()["active"])

    def measure(self, kind: Kind, sequential: Progress, parallel: Progress) -> tuple[Part, Part]:
        """Both parts of one kind; first, the workers that are needed are started by a few tasks that don't count."""
        width = at_once(kind, self._workers, self.machine)
        self._part(tasks_of(kind, 2 * width, _WARM_UP), width, lambda _: None)
        tasks = tasks_of(kind, self._tasks, self._seconds)
        return self._part(tasks, 1, sequential), self._part(tasks, width, parallel)

    def clear(self, client: Client) -> None:
        """Remove every flow of this run, whatever is left in the queue, and the queue's limit.

        Args:
            client: a new one, because an interrupted one may be in the middle of something.
        """
        for uuid in self._submissions:
            try:
                _remove(client, client.submission(uuid)["flow"])
            except RefusedByDaemon as refusal:
                if refusal.code != "not_found":
                    raise
        self._submissions.clear()
        clear_queue(client)

    def _part(self, tasks: list[Body], width: int, tell: Progress) -> Part:
        self._client.queue_limit(QUEUE, width)
        uuid = new_uuid()
        self._submissions.append(uuid)
        flow = self._client.submit_batch(
            [{**task, "queue": QUEUE, "retries": 0} for task in tasks], name="benchmark", submission=uuid
        )
        self._wait(flow.ref, tell)
        tell(len(tasks))
        found = list(self._client.list(flow=flow.number))
        failed = next((task for task in found if task["state"] != "succeeded"), None)
        if failed is not None:
            raise ClientError(
                f"a task of the benchmark {failed['state']}: {failed.get('reason') or 'it did not succeed'}"
            )
        _remove(self._client, flow.number)
        self._submissions.remove(uuid)
        return part_of(found)

    def _wait(self, ref: str, tell: Progress) -> None:
        looked = time.monotonic()
        while True:
            try:
                self._client.wait(ref, timeout=_POLL)
            except WaitTimeout as waiting:
                tell(waiting.status["ended"])
            else:
                return
            if time.monotonic() - looked > _LOOK:
                must_start(self._client)
                looked = time.monotonic()


def must_start(client: Client) -> None:
    """Raises: ClientError: the daemon starts nothing, or one task at a time, so there is nothing to measure."""
    hello = client.hello()
    if hello["state"] != "running":
        raise ClientError("the daemon is stopping: it takes no benchmark")
    if hello.get("drain"):
        raise ClientError(
            "the daemon starts nothing (`gemflowctl drain`); `gemflowctl drain --off` lets it start tasks again"
        )
    if not client.status().get("enabled", True):
        raise ClientError("parallel execution is disabled; `gemflowctl enable` turns it on")
    if any(queue["queue"] == QUEUE and queue["paused"] for queue in client.queues()):
        raise ClientError(f"the queue {QUEUE} is paused; `gemflowctl resume {QUEUE}` lets it go on")


@contextmanager
def alone(client: Client) -> Iterator[None]:
    """Nobody else runs a benchmark on this daemon meanwhile.

    A socket in the abstract namespace stands for that: it has no file, and is gone with the process, however that ends.

    Raises:
        ClientError: somebody does.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim:
        try:
            claim.bind(f"\0gemflowctl-benchmark-{client.hello()['epoch']}")
        except OSError:
            raise ClientError("another benchmark is running on this daemon") from None
        yield


def clear_queue(client: Client) -> None:
    """Remove the flows of a benchmark that was killed, and the limit that it left."""
    found = [queue for queue in client.queues() if queue["queue"] == QUEUE]
    if not found:
        return
    if found[0].get("tasks"):
        for flow in sorted({task["flow"] for task in client.list(queue=QUEUE)}):
            _remove(client, flow)
    if found[0]["limit"] is not None:
        client.queue_limit(QUEUE, None)


def _remove(client: Client, flow: int) -> None:
    """Delete a flow; what of it has not ended is cancelled."""
    ref = f"f{flow}"
    try:
        client.cancel(ref)
        client.wait(ref, timeout=_END)
        client.delete(ref)
    except RefusedByDaemon as refusal:
        # An open flow is discarded by `cancel`, and is gone then.
        if refusal.code != "not_found":
            raise


def _machine(client: Client) -> Machine:
    slots = client.workers()["slots"]
    try:
        cores = len(os.sched_getaffinity(client.hello()["pid"]))
    except OSError:  # the daemon is in another namespace of processes
        cores = len(os.sched_getaffinity(0))
    return Machine(max(1, slots["coroutine"]), max(1, slots["blocking"]), cores)
