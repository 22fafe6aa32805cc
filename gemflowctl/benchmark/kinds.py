"""The kinds of tasks that are measured, what would be possible of each, and the figures of a run. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from gemflowctl.steps import Body

Kind = Literal["io", "cpu", "mixed", "noop"]
KINDS: Final[tuple[Kind, ...]] = ("io", "cpu", "mixed", "noop")
#: Those of the guide's table.
USUAL: Final[tuple[Kind, ...]] = ("io", "cpu", "mixed")


@dataclass(frozen=True, slots=True)
class Machine:
    """What the daemon has: slots for coroutines and for what blocks, and processors that it may use."""

    coroutine: int
    blocking: int
    cores: int


def tasks_of(kind: Kind, count: int, seconds: float) -> list[Body]:
    """The tasks of one part; `mixed` waits and burns in turn."""
    if kind == "noop":
        return [{"type": "echo", "data": {}}] * count
    waits, burns = (
        {"type": "sleep", "data": {"seconds": seconds}},
        {"type": "spin", "data": {"seconds": seconds}},
    )
    one_by_one = {"io": (waits, waits), "cpu": (burns, burns), "mixed": (waits, burns)}[kind]
    return [one_by_one[number % 2] for number in range(count)]


def at_once(kind: Kind, wanted: int, machine: Machine) -> int:
    """How many run at a time: as many as are wanted, or as the daemon has slots for.

    Of no-ops several are handed to one slot together, so that there the limit is what is wanted.
    """
    slots = {"io": machine.coroutine, "cpu": machine.blocking, "mixed": machine.coroutine + machine.blocking}
    return min(wanted, slots.get(kind, wanted))


def ceiling(kind: Kind, count: int, width: int, machine: Machine) -> float | None:
    """The speed-up that would be possible if nothing but the tasks took time; None where they take none.

    All take equally long, so that they go in rounds: of `width`, and of no more burning ones than there are blocking slots and
    processors.
    """
    if kind == "noop":
        return None
    burning = {"io": 0, "cpu": count, "mixed": count // 2}[kind]
    rounds = max(
        math.ceil(count / width),
        math.ceil((count - burning) / min(width, machine.coroutine)),
        math.ceil(burning / min(width, machine.blocking, machine.cores)),
    )
    return count / rounds


@dataclass(frozen=True, slots=True)
class Part:
    """One part as the daemon has recorded it: seconds of the whole, from its submission to its last end, and of each task.

    Attributes:
        runs: of each task, from its start to its end.
        latencies: of each task, from the submission to its end.
    """

    seconds: float
    runs: list[float]
    latencies: list[float]


def part_of(tasks: Sequence[Body]) -> Part:
    """The figures of tasks as `list` describes them; they were submitted together and have all ended."""
    submitted = min(task["created"] for task in tasks)
    return Part(
        seconds=max(task["finished"] for task in tasks) - submitted,
        runs=sorted(task["finished"] - task["started"] for task in tasks),
        latencies=sorted(task["finished"] - submitted for task in tasks),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def outcome(
    kind: Kind, count: int, seconds: float, wanted: int, machine: Machine, sequential: Part, parallel: Part
) -> dict[str, Any]:
    """What `--json` has of one kind."""
    width = at_once(kind, wanted, machine)
    most = ceiling(kind, count, width, machine)
    return {
        "kind": kind,
        "tasks": count,
        "task_seconds": 0.0 if kind == "noop" else seconds,
        "workers": wanted,
        "at_once": width,
        "sequential_seconds": round(sequential.seconds, 6),
        "parallel_seconds": round(parallel.seconds, 6),
        "speedup": round(sequential.seconds / parallel.seconds, 3) if parallel.seconds > 0 else None,
        "ceiling": None if most is None else round(most, 3),
        "tasks_per_second": round(count / parallel.seconds, 1) if parallel.seconds > 0 else None,
        "run": _quantiles(parallel.runs),
        "latency": _quantiles(parallel.latencies),
    }


def _quantiles(ordered: Sequence[float]) -> dict[str, float]:
    return {"p50": round(quantile(ordered, 0.5), 6), "p95": round(quantile(ordered, 0.95), 6)}
