"""The client of gemflow: `from gemflowctl import Client` (or `AsyncClient`, the same in asyncio), and the CLI.

Names are loaded when they are first asked for, so that importing the package costs nothing and the command line stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gemflowctl.aio import AsyncClient, AsyncFlow, AsyncTask
    from gemflowctl.client import Client, Flow, Task
    from gemflowctl.errors import (
        ClientError,
        ConnectionLost,
        InvalidInput,
        NoDaemon,
        RefusedByDaemon,
        ReplyTimeout,
        TaskFailed,
        WaitTimeout,
    )
    from gemflowctl.results import Result, TaskError

__all__ = [
    "AsyncClient",
    "AsyncFlow",
    "AsyncTask",
    "Client",
    "ClientError",
    "ConnectionLost",
    "Flow",
    "InvalidInput",
    "NoDaemon",
    "RefusedByDaemon",
    "ReplyTimeout",
    "Result",
    "Task",
    "TaskError",
    "TaskFailed",
    "WaitTimeout",
]

_HOMES: Final[dict[str, str]] = {
    "AsyncClient": "gemflowctl.aio",
    "AsyncFlow": "gemflowctl.aio",
    "AsyncTask": "gemflowctl.aio",
    "Client": "gemflowctl.client",
    "Flow": "gemflowctl.client",
    "Task": "gemflowctl.client",
    "Result": "gemflowctl.results",
    "TaskError": "gemflowctl.results",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "gemflowctl.errors")), name)
