"""Waiting for tasks and flows by long polls that are renewed. Steps, shared by both clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gemflowctl.errors import WaitTimeout
from gemflowctl.paging import results
from gemflowctl.refs import RefLike, Refs, check, check_all
from gemflowctl.results import Result, from_line
from gemflowctl.steps import Body, Call, Steps

#: Seconds of one long poll, the most that the protocol allows.
LONG_POLL: Final = 30.0
#: The same when somebody watches: `wait` answers at its end only, and a progress bar wants to move.
WATCHED_POLL: Final = 0.5


def wait(
    refs: Refs,
    any_: bool,
    timeout: float | None,
    progress: Callable[[Body], object] | None,
    clock: Callable[[], float] = time.monotonic,
) -> Steps[Body]:
    """The last answer of `wait`, once all (with `any_`: one) have ended.

    Raises:
        WaitTimeout: `timeout` seconds were over first.
    """
    names = check_all(refs)
    end = None if timeout is None else clock() + timeout
    while True:
        poll = LONG_POLL if progress is None else WATCHED_POLL
        if end is not None:
            poll = min(poll, max(0.0, end - clock()))
        reply: Body = yield Call("wait", {"refs": names, "any": any_, "timeout": poll}, patience=poll)
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
        yield from wait(name, False, timeout, None)
        reply: Body = yield Call("results", {"refs": [name]})
        if reply["results"]:
            return from_line(reply["results"][0])
        # Somebody retried it in between: wait again.


def wait_and_results(refs: Refs, timeout: float | None) -> Steps[None]:
    """Wait for all, then emit their result lines."""
    yield from wait(refs, False, timeout, None)
    yield from results(refs)
