"""Answers that come in pages: tasks, results, logs, keys of the shared memory. Steps, shared by both clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gemflowctl.refs import RefLike, Refs, check, check_all
from gemflowctl.steps import Body, Call, Emit, Steps

#: Seconds of one long poll for log lines; the protocol allows 30.
_LOG_POLL: Final = 30.0
_LIST_PAGE: Final = 500
_USAGE_PAGE: Final = 5_000
#: Keys of the shared memory in one page, and fewer where the values come along.
_KEYS_PAGE: Final = 500
_VALUES_PAGE: Final = 50


def list_tasks(limit: int | None, *, metadata: Mapping[str, Any] | None, **filters: Any) -> Steps[None]:
    """Emits tasks as `list` describes them, by number; at most `limit`, or all. A filter that is None is none."""
    body = {name: value for name, value in filters.items() if value is not None}
    if metadata:
        body["metadata"] = dict(metadata)
    left = limit
    after: int | None = None
    while left is None or left > 0:
        page = {**body, "limit": _LIST_PAGE if left is None else min(left, _LIST_PAGE)}
        if after is not None:
            page["after"] = after
        reply: Body = yield Call("list", page)
        for task in reply["tasks"]:
            yield Emit(task)
        if left is not None:
            left -= len(reply["tasks"])
        after = reply.get("next")
        if after is None:
            return


def results(refs: Refs) -> Steps[None]:
    """Emits result lines of what has ended, in order of submission."""
    body: Body = {"refs": check_all(refs)}
    while True:
        reply: Body = yield Call("results", body)
        for line in reply["results"]:
            yield Emit(line)
        if reply.get("next") is None:
            return
        body = {**body, "after": reply["next"]}


def logs(ref: RefLike, follow: bool, after: int) -> Steps[None]:
    """Emits log lines; with `follow` until the task has ended, else those that are there."""
    wait = _LOG_POLL if follow else 0.0
    while True:
        body: Body = {"ref": check(ref), "after": after}
        if wait:
            body["wait"] = wait
        reply: Body = yield Call("logs", body, patience=wait)
        for line in reply["lines"]:
            yield Emit(line)
        before, after = after, after if reply.get("next") is None else reply["next"]
        if reply.get("ended") or (not follow and not reply["lines"] and after == before):
            return


def memory_list(namespace: str | None, prefix: str, values: bool, limit: int | None) -> Steps[None]:
    """Emits keys of the shared memory, in order; at most `limit`, or all."""
    body: Body = {} if namespace is None else {"namespace": namespace}
    if prefix:
        body["prefix"] = prefix
    if values:
        body["values"] = True
    most = _VALUES_PAGE if values else _KEYS_PAGE
    left = limit
    while left is None or left > 0:
        reply: Body = yield Call("memory_list", {**body, "limit": most if left is None else min(left, most)})
        for item in reply["items"]:
            yield Emit(item)
        if left is not None:
            left -= len(reply["items"])
        if reply.get("next") is None:
            return
        body["after"] = reply["next"]


def usage(by: str, since: float | None) -> Steps[Body]:
    """The body of `usage` with the rows of all pages."""
    body: Body = {"by": by, "limit": _USAGE_PAGE, **({} if since is None else {"since": since})}
    rows: list[Body] = []
    total: Body | None = None
    while True:
        reply: Body = yield Call("usage", body)
        rows += reply["usage"]
        total = total or reply["total"]
        if reply.get("next") is None:
            return {**reply, "usage": rows, "total": total}
        body = {**body, "after": reply["next"]}


def budgets() -> Steps[Body]:
    """`{budgets, currency}`, all of them."""
    body: Body = {}
    found: list[Body] = []
    while True:
        reply: Body = yield Call("budget_list", body)
        found += reply["budgets"]
        if reply.get("next") is None:
            return {"budgets": found, "currency": reply["currency"]}
        body = {"after": reply["next"]}
