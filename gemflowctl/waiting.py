"""Waiting for tasks and flows by long polls that are renewed. Steps, shared by both clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeAlias

from gemflowctl.errors import WaitTimeout
from gemflowctl.refs import RefLike, Refs, check, check_all
from gemflowctl.results import Result, from_line
from gemflowctl.steps import Body, Call, Emit, Steps
from gemflowd.model.states import TERMINAL

#: Seconds of one long poll, the most that the protocol allows.
LONG_POLL: Final = 30.0
#: The same when somebody watches: `wait` answers at its end only, and a progress bar wants to move.
WATCHED_POLL: Final = 0.5
_ENDED: Final = frozenset(state.word for state in TERMINAL)

#: Called with the tasks of a flow that have ended, and with all of them.
Progress: TypeAlias = Callable[[int, int], object]


def wait(
    refs: Refs,
    any_: bool,
    timeout: float | None,
    progress: Callable[[Body], object] | None,
    clock: Callable[[], float] = time.monotonic,
    *,
    results: int = 0,
) -> Steps[Body]:
    """The last answer of `wait`, once all (with `any_`: one) have ended.

    Args:
        results: so many result lines come along, in `results`.

    Raises:
        WaitTimeout: `timeout` seconds were over first.
    """
    names = check_all(refs)
    more = {"results": results} if results else {}
    end = None if timeout is None else clock() + timeout
    while True:
        poll = LONG_POLL if progress is None else WATCHED_POLL
        if end is not None:
            poll = min(poll, max(0.0, end - clock()))
        reply: Body = yield Call("wait", {"refs": names, "any": any_, "timeout": poll, **more}, patience=poll)
        if progress is not None:
            progress(reply)
        if reply["done"]:
            return reply
        if end is not None and clock() >= end:
            raise WaitTimeout(
                f"{reply['ended']} of {reply['total']} tasks ended within {timeout:g} s; they run on", reply
            )


def result(ref: RefLike, timeout: float | None) -> Steps[Result]:
    """Wait for one task and return what it came to.

    Raises:
        WaitTimeout: it did not end in time.
    """
    name = check(ref)
    while True:
        reply = yield from wait(name, False, timeout, None, results=1)
        if reply["results"]:
            return from_line(reply["results"][0])
        # Somebody retried it in between: wait again.


def results_in_order(flow: RefLike, after: int | None, progress: Progress | None) -> Steps[None]:
    """Emit each result line of a flow once, as soon as the task and all before it have ended, until none can be added.

    Args:
        after: begin behind the task with this number.
        progress: called with the tasks that have ended, and with all, whenever something may have changed.
    """
    ref = check(flow)
    poll = LONG_POLL if progress is None else WATCHED_POLL
    body: Body = {"refs": [ref], "after": after or 0, "wait": poll}
    while True:
        reply: Body = yield Call("results", body, patience=poll)
        if progress is not None:
            item = yield from status_of(ref)
            progress(sum(count for state, count in item["tasks"].items() if state in _ENDED), item["total"])
        for line in reply["results"]:
            yield Emit(line)
        if reply["done"]:
            return
        body = {**body, "after": reply["next"]}


def status_of(flow: str) -> Steps[Body]:
    """A flow as `status` describes it."""
    reply: Body = yield Call("status", {"refs": [flow]})
    return reply["items"][0]  # type: ignore[no-any-return]
