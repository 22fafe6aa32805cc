"""A `Context` for calling a handler by itself, which keeps what the handler says to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gemflowd.worker.context import Context


@dataclass
class Said:
    """What a handler told its context."""

    lines: list[tuple[str, str]] = field(default_factory=list)  # stream, text
    process_groups: list[int] = field(default_factory=list)

    def stream(self, name: str) -> list[str]:
        return [text for stream, text in self.lines if stream == name]


def make_context(
    type: str = "test",  # noqa: A002 - the context's own name for it
    *,
    timeout: float = 30.0,
    results: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    grace: float = 10.0,
    pass_fds: tuple[int, ...] = (),
) -> tuple[Context, Said]:
    """A context of task 42 in flow 7, and what will have been said to it."""
    said = Said()
    context = Context(
        task=42,
        flow=7,
        id="a",
        type=type,
        attempt=1,
        timeout=timeout,
        results=results or {},
        settings=settings or {},
        emit=lambda stream, text: said.lines.append((stream, text)),
        grace=grace,
        pass_fds=pass_fds,
        _process_group=said.process_groups.append,
    )
    return context, said
