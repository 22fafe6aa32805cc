"""The figures that decisions depend on, as the settings give them at this moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gemflowd.model.budget import NewBudget
from gemflowd.model.prices import Prices


@dataclass(slots=True, frozen=True)
class Rules:
    """Figures for `core`. Times in seconds."""

    retries: int = 3
    backoff: float = 1.0
    timeout: float = 300.0
    crash_limit: int = 3
    lost_limit: int = 10
    fair: bool = True
    coroutines: int = 1 << 30  # at a time, also while a worker that has been replaced finishes some
    enabled: bool = True  # False: one task at a time, in order
    max_inputs_bytes: int = 64 * 1024 * 1024
    memory_limit: int = 1  # attempts over their memory cap before a task fails
    ageing: float = 0.0  # seconds of waiting that raise the priority by one; 0: never
    resources: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # figures (model.limit) by the name of the limit
    max_queued_bytes: int = 8 * 1024**3
    min_free_bytes: int = 0
    max_growth_tasks: int = 10_000
    max_growth_depth: int = 100
    open_expires: float = 86_400.0
    keep_flows: float = 7 * 86_400.0  # after their end; 0: for ever
    keep_events: float = 72 * 3600.0  # 0: for ever
    max_value_bytes: int = 1024 * 1024
    max_memory_bytes: int = 256 * 1024 * 1024
    prices: Prices = field(default_factory=Prices)
    day_budget: NewBudget | None = None  # of every day, where none was set at run time
    budget_output_tokens: int = 1024  # that a call is expected to answer with, as long as nothing is known of its model
    max_cache_bytes: int = 256 * 1024 * 1024
    batch_items: int = 1000  # questions of one batch of model calls
    batch_wait: float = 60.0  # after its first question, before it is sent
    keep_cache: float = 30 * 86_400.0  # after their last use; 0: for ever
