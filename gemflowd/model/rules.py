"""The figures that decisions depend on, as the settings give them at this moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Rules:
    """Figures for `core`. Times in seconds."""

    retries: int = 3
    backoff: float = 1.0
    timeout: float = 300.0
    crash_limit: int = 3
    lost_limit: int = 10
    fair: bool = True
    enabled: bool = True  # False: one task at a time, in order
    max_inputs_bytes: int = 64 * 1024 * 1024
