"""How the local executor runs its workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gemflowd.executor.base import HandlerSettings


@dataclass(slots=True, frozen=True)
class Options:
    """What a nursery and its workers are started with; a reload brings others. Times in seconds."""

    handlers: Sequence[str] = ()
    handler_path: Sequence[str] = ()
    settings: HandlerSettings = field(default_factory=dict)
    grace: float = 10.0
    max_result_bytes: int = 16 * 1024 * 1024
