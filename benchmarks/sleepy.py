"""Task types for benchmarks: one whose limit is used up (`benchmarks.fairness`), one that says when it began (`benchmarks.workers`),
one that blocks its worker (`benchmarks.sleeps`, `benchmarks.cores`)."""

import os
import time
from typing import Any

from gemflowd.handlers.errors import RateLimited
from gemflowd.handlers.registry import task
from gemflowd.worker.context import Context


@task("sleepy", bucket="sleepy")
def sleepy(data: dict[str, Any], context: Context) -> None:
    """Say that the quota is used up."""
    raise RateLimited("come back tomorrow", retry_after=86_400.0)


@task("began")
def began(data: dict[str, Any], context: Context) -> tuple[int, float]:
    """In which process, and at what time, and then take `seconds` without a processor."""
    now = time.time()
    time.sleep(data["seconds"])
    return os.getpid(), now


@task("nap")
def nap(data: dict[str, Any], context: Context) -> None:
    """Block the worker for `seconds` without a processor, as a synchronous HTTP call does."""
    time.sleep(data["seconds"])
