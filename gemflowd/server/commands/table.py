"""Which operation is carried out where. One word for one thing: the operation, its message, its file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from gemflowd.model.facts import Reply, Speaker
from gemflowd.server.commands import (
    budget,
    cache,
    cancel,
    config,
    db,
    delete,
    doctor,
    drain,
    edit,
    estimate,
    explain,
    handlers,
    hello,
    hold,
    limit,
    logs,
    memory,
    profile,
    queues,
    release,
    reload,
    results,
    retry,
    schedule,
    show,
    shutdown,
    stats,
    status,
    submission,
    submit,
    subscribe,
    usage,
    wait,
    workers,
)
from gemflowd.server.commands import list as list_tasks
from gemflowd.server.desk import Body, Desk

#: Checks a body, and replies exactly once: at once, later through the engine, or in the coroutine that it returns.
Command = Callable[[Desk, Body, Reply], Awaitable[None] | None]
#: The same for a running attempt, which it is told of.
AttemptCommand = Callable[[Desk, Body, Reply, Speaker], Awaitable[None] | None]

COMMANDS: Final[dict[str, Command]] = {
    "budget_list": budget.list_all,
    "budget_raise": budget.raise_budget,
    "budget_remove": budget.remove,
    "budget_set": budget.set_budget,
    "cache_clear": cache.clear,
    "cache_list": cache.list_entries,
    "cache_stats": cache.stats,
    "cancel": cancel.handle,
    "config": config.handle,
    "db_check": db.check,
    "db_snapshot": db.snapshot,
    "delete": delete.handle,
    "discard": submission.discard,
    "doctor": doctor.handle,
    "drain": drain.handle,
    "edit": edit.handle,
    "events": subscribe.events,
    "explain": explain.handle,
    "handlers": handlers.handle,
    "hello": hello.handle,
    "hold": hold.handle,
    "list": list_tasks.handle,
    "logs": logs.handle,
    "memory_delete": memory.delete,
    "memory_get": memory.get,
    "memory_list": memory.list_values,
    "memory_set": memory.set_value,
    "pause": queues.pause,
    "ping": hello.ping,
    "profile": profile.handle,
    "queues": queues.handle,
    "release": release.handle,
    "reload": reload.handle,
    "restart_workers": workers.restart,
    "results": results.handle,
    "resume": queues.resume,
    "retry": retry.handle,
    "schedule_add": schedule.add,
    "schedule_list": schedule.list_all,
    "schedule_pause": schedule.pause,
    "schedule_remove": schedule.remove,
    "schedule_resume": schedule.resume,
    "schedule_show": schedule.show,
    "show": show.handle,
    "shutdown": shutdown.handle,
    "stats": stats.handle,
    "status": status.handle,
    "submission": submission.handle,
    "submit": submit.handle,
    "subscribe": subscribe.handle,
    "usage": usage.handle,
    "wait": wait.handle,
    "workers": workers.handle,
}

#: What a running attempt may ask, and nothing else: the same commands, with the attempt as who speaks.
ATTEMPT_COMMANDS: Final[dict[str, AttemptCommand]] = {
    "cache_begin": cache.begin,
    "cache_leave": cache.leave,
    "estimate": estimate.ask,
    "handlers": handlers.of_attempt,
    "limit": limit.sleep,
    "memory_delete": memory.delete,
    "memory_get": memory.get,
    "memory_list": memory.list_values,
    "memory_set": memory.set_value,
    "submit": submit.grow,
}
