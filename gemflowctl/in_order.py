"""The results of a flow in order of submission, while it runs. Steps, shared by both clients.

`results` has only what has ended, so `list` tells up to where everything has; then the first that has not is waited for.
As they come is `following.as_completed`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Final, TypeAlias

from gemflowctl.refs import RefLike, check
from gemflowctl.steps import Bodies, Body, Call, Emit, Steps
from gemflowctl.waiting import LONG_POLL, WATCHED_POLL
from gemflowd.model.states import TERMINAL

#: Called with the tasks of the flow that have ended, and with all of them.
Progress: TypeAlias = Callable[[int, int], object]

#: Tasks looked at in one request: few while each has to be waited for, and more as long as all of them have ended.
_FEWEST: Final = 32
_MOST: Final = 1000
_ENDED: Final = frozenset(state.word for state in TERMINAL)


def in_order(flow: RefLike, after: int | None, progress: Progress | None) -> Steps[None]:
    """Emits the result line of each task of a flow once, from the one behind number `after` on, until none can be added."""
    ref = check(flow)
    number = int(ref.removeprefix("f"))
    after = after or 0
    limit = _MOST
    over = False  # the flow had ended before the last look
    while True:
        page: Body = yield Call("list", {"flow": number, "after": after, "limit": limit})
        tasks: Bodies = page["tasks"]
        ended = list(takewhile(lambda task: task["state"] in _ENDED, tasks))
        if ended:
            after = yield from _lines(ref, after, [task["number"] for task in ended])
            limit = min(_MOST, limit * 2) if len(ended) == len(tasks) else max(_FEWEST, limit // 2)
            over = False
        elif tasks:
            yield from _wait(str(tasks[0]["number"]), ref, progress)
            over = False
        elif over:
            return
        else:
            item = yield from _flow(ref, progress)
            over = item["state"] not in ("open", "active")
            if not over:
                yield from _wait(ref, ref, progress)


def _lines(ref: str, after: int, numbers: list[int]) -> Steps[int]:
    """Emit the lines of these tasks, which are the next ones; the number of the last. One that was retried just now ends it."""
    expected = iter(numbers)
    while True:
        reply: Body = yield Call("results", {"refs": [ref], "after": after, "limit": len(numbers)})
        for line in reply["results"]:
            if line["number"] != next(expected, None):
                return after
            after = line["number"]
            yield Emit(line)
        if reply.get("next") is None or after == numbers[-1]:
            return after


def _wait(what: str, flow: str, progress: Progress | None) -> Steps[None]:
    poll = LONG_POLL if progress is None else WATCHED_POLL
    yield Call("wait", {"refs": [what], "timeout": poll}, patience=poll)
    if progress is not None:
        yield from _flow(flow, progress)


def _flow(ref: str, progress: Progress | None) -> Steps[Body]:
    reply: Body = yield Call("status", {"refs": [ref]})
    item: Body = reply["items"][0]
    if progress is not None:
        progress(sum(count for state, count in item["tasks"].items() if state in _ENDED), item["total"])
    return item
