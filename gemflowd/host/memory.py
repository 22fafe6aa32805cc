"""How much memory there is for us: that of the machine, or of the control group that we are in."""

from __future__ import annotations

import psutil

from gemflowd.host.cgroups import memory_max


def memory_limit_bytes() -> int:
    """Bytes: the least of the machine's memory and of the limits of all control groups above us."""
    limit = memory_max()
    total = int(psutil.virtual_memory().total)
    return total if limit is None else min(total, limit)
