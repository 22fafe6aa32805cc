"""What a handler gets as its second argument."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Context:
    """One attempt, seen from inside its handler. Settings that handlers may read are in `settings`."""

    task: int
    flow: int
    id: str | None
    type: str
    attempt: int
    timeout: float  # seconds for this attempt
    results: Mapping[str, Any]  # results of the dependencies, by id (or number, where it has none)
    settings: Mapping[str, Any]  # the part of the daemon's settings that handlers may see; no secrets
    emit: Callable[[str, str], None]  # stream, text: one line of the task's log
    grace: float = 10.0  # seconds between being asked to stop and being killed
    pass_fds: tuple[int, ...] = ()  # descriptors that a subprocess must inherit: the lease (docs/architecture.md)
    usage: dict[str, Any] = field(default_factory=dict)  # what the attempt cost, kept with it
    _cancelled: bool = False
    _process_group: Callable[[int], None] | None = None

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of the task: hand it to services that accept one."""
        return f"gemflow-{self.flow}-{self.task}"

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was asked to stop (by a person or its timeout)."""
        return self._cancelled

    def log(self, text: str, stream: str = "log") -> None:
        """Add lines to the task's log. Never log a secret."""
        for line in text.splitlines() or [""]:
            self.emit(stream, line)

    def started_process(self, pid: int) -> None:
        """Tell the daemon of a subprocess that leads a process group, so that it ends with the attempt."""
        if self._process_group is not None:
            self._process_group(pid)

    def process_environment(self) -> dict[str, str]:
        """The environment for a subprocess: this process's, without secrets, and with who asked for it."""
        environment = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
        environment["GEMFLOW_TASK"] = str(self.task)
        environment["GEMFLOW_FLOW"] = str(self.flow)
        environment["GEMFLOW_ATTEMPT"] = str(self.attempt)
        environment["GEMFLOW_IDEMPOTENCY_KEY"] = self.idempotency_key
        return environment


#: Variables that a handler's subprocess never inherits.
SECRET_VARIABLES = frozenset(
    {"GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "CREDENTIALS_DIRECTORY"}
)
