"""Which operation is carried out where. One word for one thing: the operation, its message, its file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from gemflowd.model.facts import Reply
from gemflowd.server.commands import (
    cancel,
    config,
    db,
    handlers,
    hello,
    logs,
    profile,
    results,
    retry,
    show,
    shutdown,
    stats,
    status,
    submission,
    submit,
    subscribe,
    wait,
    workers,
)
from gemflowd.server.commands import list as list_tasks
from gemflowd.server.desk import Body, Desk

#: Checks a body, and replies exactly once: at once, later through the engine, or in the coroutine that it returns.
Command = Callable[[Desk, Body, Reply], Awaitable[None] | None]

COMMANDS: Final[dict[str, Command]] = {
    "cancel": cancel.handle,
    "config": config.handle,
    "db_check": db.check,
    "db_snapshot": db.snapshot,
    "discard": submission.discard,
    "events": subscribe.events,
    "handlers": handlers.handle,
    "hello": hello.handle,
    "list": list_tasks.handle,
    "logs": logs.handle,
    "ping": hello.ping,
    "profile": profile.handle,
    "results": results.handle,
    "retry": retry.handle,
    "show": show.handle,
    "shutdown": shutdown.handle,
    "stats": stats.handle,
    "status": status.handle,
    "submission": submission.handle,
    "submit": submit.handle,
    "subscribe": subscribe.handle,
    "wait": wait.handle,
    "workers": workers.handle,
}
