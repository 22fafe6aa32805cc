"""The requests of docs/protocol.md that are one request and one reply. Pure; one function an operation.

Those of queues, schedules, the shared memory and the database are in `ops_stored.py`. Longer operations: `paging.py`,
`waiting.py`, `submission.py`, `pouring.py`, `following.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gemflowctl.refs import RefLike, Refs, check, check_all, names_many
from gemflowctl.steps import Call
from gemflowd.protocol.versions import DAEMON_VERSION

#: Seconds on top of the usual ones for what is done to a whole flow: the reply comes when all of it is done.
_WHOLE_FLOW: Final = 300.0


def hello() -> Call:
    return Call("hello", {"client": f"gemflowctl {DAEMON_VERSION}"})


def ping() -> Call:
    return Call("ping")


def status(refs: Refs | None) -> Call:
    return Call("status", {} if refs is None else {"refs": check_all(refs)})


def stats() -> Call:
    return Call("stats")


def show(ref: RefLike) -> Call:
    return Call("show", {"ref": check(ref)})


def explain(ref: RefLike) -> Call:
    return Call("explain", {"ref": check(ref)})


def cancel(refs: Refs) -> Call:
    return _on_all("cancel", refs)


def retry(refs: Refs, downstream: bool) -> Call:
    # Not repeatable: what was retried may have failed again in between, and would run once more.
    return _on_all("retry", refs, {"downstream": downstream}, repeatable=False)


def hold(refs: Refs) -> Call:
    return _on_all("hold", refs)


def release(refs: Refs) -> Call:
    return _on_all("release", refs)


def edit(refs: Refs, priority: int) -> Call:
    return _on_all("edit", refs, {"priority": priority})


def delete(refs: Refs) -> Call:
    # Not repeatable: the second would be refused, since what it names is gone.
    return _on_all("delete", refs, repeatable=False)


def _on_all(op: str, refs: Refs, more: Mapping[str, Any] | None = None, *, repeatable: bool = True) -> Call:
    names = check_all(refs)
    patience = _WHOLE_FLOW if any(map(names_many, names)) else 0.0
    return Call(op, {"refs": names, **(more or {})}, repeatable=repeatable, patience=patience)


def workers(count: int | None) -> Call:
    return Call("workers", {} if count is None else {"count": count})


def profile(name: str | None) -> Call:
    return Call("profile", {} if name is None else {"name": name})


def restart_workers() -> Call:
    # Not repeatable: those that took the places of the first would be replaced at once.
    return Call("restart_workers", repeatable=False)


def config(change: Mapping[str, Any] | None, reset: Sequence[str] | None, reset_all: bool) -> Call:
    body: dict[str, Any] = {"reset_all": True} if reset_all else {}
    if change:
        body["set"] = dict(change)
    if reset:
        body["reset"] = list(reset)
    return Call("config", body)


def handlers() -> Call:
    return Call("handlers")


def doctor() -> Call:
    return Call("doctor")


def reload() -> Call:
    return Call("reload", repeatable=False)  # it replaces the workers


def drain(off: bool) -> Call:
    return Call("drain", {"off": True} if off else {})


def shutdown(drain: bool) -> Call:
    # Not repeatable: a daemon that was started again meanwhile must not get it.
    return Call("shutdown", {"drain": drain}, repeatable=False)


def submission(uuid: str) -> Call:
    return Call("submission", {"submission": uuid})


def discard(uuid: str) -> Call:
    return Call("discard", {"submission": uuid}, repeatable=False)


def subscribe(topics: Sequence[str]) -> Call:
    return Call("subscribe", {"topics": list(topics)} if topics else {})


def events(start: int, topics: Sequence[str], limit: int) -> Call:
    return Call("events", {"from": start, "limit": limit, **({"topics": list(topics)} if topics else {})})
