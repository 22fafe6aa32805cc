"""What the engine knows of budgets between turns: few rows, whatever is in the queue. All of it is stored.

Does not cover: decisions (`core.budgets`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gemflowd.model.budget import Budget, Calls, ModelUse, Reservation, Scope, Target

#: Budgets of flows and tasks that are remembered, about.
_MOST: Final = 4096
_DAY: Final = 86_400.0


@dataclass(slots=True)
class Accounts:
    """Budgets by what they are for. Those of queues, of the day and in all are always here; those of flows and tasks where
    something of theirs was looked at (None: there is none)."""

    wide: dict[tuple[Scope, Target], Budget] = field(default_factory=dict)
    flows: dict[int, Budget | None] = field(default_factory=dict)
    tasks: dict[int, Budget] = field(default_factory=dict)
    has_flows: bool = False  # whether any flow has one; else nothing is looked for
    has_tasks: bool = False
    reservations: dict[int, Reservation] = field(default_factory=dict)  # by task
    models: dict[Calls, ModelUse] = field(default_factory=dict)
    next_number: int = 1

    @property
    def active(self) -> bool:
        """Whether there is any budget."""
        return bool(self.wide) or self.has_flows or self.has_tasks

    def trim(self) -> None:
        """Between two turns: forget what the store has, where it is much."""
        if len(self.flows) > _MOST:
            self.flows.clear()
        if len(self.tasks) > _MOST:
            self.tasks.clear()

    def put(self, budget: Budget) -> None:
        if budget.scope is Scope.TASK:
            self.tasks[int(budget.target)] = budget
            self.has_tasks = True
        elif budget.scope is Scope.FLOW:
            self.flows[int(budget.target)] = budget
            self.has_flows = True
        else:
            self.wide[budget.scope, budget.target] = budget

    def forget(self, budget: Budget) -> None:
        """It is there no more."""
        if budget.scope is Scope.TASK:
            self.tasks.pop(int(budget.target), None)
        elif budget.scope is Scope.FLOW:
            self.flows[int(budget.target)] = None
        else:
            self.wide.pop((budget.scope, budget.target), None)

    def wakes(self) -> float | None:
        """When the day's budget begins anew, by the wall clock, if something waits for that."""
        day = self.wide.get((Scope.DAY, 0))
        return None if day is None or not day.state else (day.day + 1) * _DAY
