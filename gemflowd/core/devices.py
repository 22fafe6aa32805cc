"""Which GPUs an attempt is given: whole ones, or a share of one.

The ids are those of CUDA_VISIBLE_DEVICES; each has a capacity of 1. An amount of 1 or more is that many whole devices, a
smaller one is a share of one device: two tasks of 0.5 share one. Where no devices are known, amounts are all there is
(`core.limits`). Pure; kept in the engine's memory, since what runs when a daemon ends runs no more at the next start.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

#: What is left of a device when shares were added and taken away again.
_DUST: Final = 1e-6


def fits(free: Iterable[float], amount: float) -> bool:
    """Whether so much can be given, of devices of which these shares are free."""
    return bool(_chosen([("", share) for share in free], amount))


def _chosen(free: Sequence[tuple[str, float]], amount: float) -> list[str]:
    """The devices that are given for an amount; empty where it does not fit. A share goes where least is left over."""
    if amount >= 1:
        wanted = math.ceil(amount - _DUST)
        whole = [name for name, share in free if share >= 1 - _DUST]
        return whole[:wanted] if len(whole) >= wanted else []
    enough = [(share, place) for place, (_, share) in enumerate(free) if share + _DUST >= amount]
    return [free[min(enough)[1]][0]] if enough else []


class Devices:
    """What each device has been given to."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._holders: dict[str, dict[int, float]] = {name: {} for name in ids}  # device -> task -> share
        self._given: dict[int, tuple[str, ...]] = {}

    @property
    def known(self) -> bool:
        """Whether there are any; else amounts alone count."""
        return bool(self._holders)

    def copy(self) -> Devices:
        other = Devices()
        other._holders = {name: dict(its) for name, its in self._holders.items()}
        other._given = dict(self._given)
        return other

    def replace(self, ids: Iterable[str]) -> None:
        """There are other devices now; what is given of those that stay is still given."""
        self._holders = {name: self._holders.get(name, {}) for name in ids}
        self._given = {task: its for task, its in self._given.items() if any(name in self._holders for name in its)}

    def free_shares(self) -> dict[str, float]:
        """What is free of each, 0 to 1."""
        return {name: 1.0 - sum(its.values()) if its else 1.0 for name, its in self._holders.items()}

    def fits(self, amount: float) -> bool:
        return not self.known or bool(_chosen(list(self.free_shares().items()), amount))

    def take(self, task: int, amount: float) -> tuple[str, ...]:
        """Give a task its devices, which must fit. Returns their ids; none where none are known."""
        chosen = _chosen(list(self.free_shares().items()), amount) if self.known else []
        for name in chosen:
            self._holders[name][task] = min(amount, 1.0)
        if chosen:
            self._given[task] = tuple(chosen)
        return tuple(chosen)

    def given(self, task: int) -> tuple[str, ...]:
        """What a task has."""
        return self._given.get(task, ())

    def free(self, task: int) -> None:
        """A task needs its devices no more; one that has none is no mistake."""
        for name in self._given.pop(task, ()):
            if name in self._holders:
                self._holders[name].pop(task, None)
