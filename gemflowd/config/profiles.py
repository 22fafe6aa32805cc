"""The four profiles, names and figures as in the guide (docs/settings.md)."""

from __future__ import annotations

import os
from typing import Any, Final

DEFAULT: Final = "balanced"


def profiles(cpus: int | None = None) -> dict[str, dict[str, Any]]:
    """The values of each profile: workers, seconds for one attempt, MB per worker, coroutines per worker."""
    count = cpus or os.cpu_count() or 1
    return {
        "conservative": {"workers": 2, "task_timeout": 600.0, "memory_mb": 256, "batch_size": 5},
        "balanced": {"workers": max(1, count // 2), "task_timeout": 300.0, "memory_mb": 512, "batch_size": 10},
        "performance": {"workers": count, "task_timeout": 180.0, "memory_mb": 1024, "batch_size": 20},
        "maximum": {"workers": count * 2, "task_timeout": 120.0, "memory_mb": 2048, "batch_size": 50},
    }
