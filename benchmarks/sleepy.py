"""A task type whose limit is used up: the first one puts all of them to sleep for a day. For `benchmarks.fairness`."""

from __future__ import annotations

from typing import Any

from gemflowd.handlers.errors import RateLimited
from gemflowd.handlers.registry import task
from gemflowd.worker.context import Context


@task("sleepy", bucket="sleepy")
def sleepy(data: dict[str, Any], context: Context) -> None:
    """Say that the quota is used up."""
    raise RateLimited("come back tomorrow", retry_after=86_400.0)
