"""Budgets: how much money or how many tokens may be used for a task, a flow, a queue, a day, or in all.

Does not cover: what is decided by them (`core.budgets`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from gemflowd.model.prices import money_of


class Scope(IntEnum):
    """What a budget is for. The numbers are stored."""

    TASK = 1
    FLOW = 2
    QUEUE = 3
    DAY = 4  # the running day, UTC; every day anew
    TOTAL = 5  # everything, since it was set

    @property
    def word(self) -> str:
        return self.name.lower()


class Action(IntEnum):
    """What becomes of what does not fit any more. The numbers are stored."""

    HOLD = 1
    WARN = 2
    CANCEL = 3

    @property
    def word(self) -> str:
        return self.name.lower()


class BudgetState(IntEnum):
    """Whether something may start. The numbers are stored."""

    OPEN = 0
    WAITING = 1  # the next did not fit beside what is in flight; when something of that ends it is tried again
    HELD = 2  # used up; raising it goes on

    @property
    def word(self) -> str:
        return self.name.lower()


ACTIONS: Final = {action.word: action for action in Action}

#: Types of tasks that call no model themselves, but add those that do: a budget of such a task would count nothing.
ADDING: Final = frozenset({"gemini.tools", "agent", "agent.plan"})

#: Calls of a model from which on what came before counts half: a mean follows what changes.
_FORGET: Final = 1024

#: A task's or flow's number, a queue's name; 0 where there is one alone.
Target = int | str


class NewBudget(NamedTuple):
    """As it was asked for. One of the two is there."""

    money: int | None  # billionths
    tokens: int | None
    action: Action = Action.HOLD


class Amount(NamedTuple):
    """Billionths, and tokens."""

    money: int = 0
    tokens: int = 0

    def plus(self, other: Amount) -> Amount:
        return Amount(self.money + other.money, self.tokens + other.tokens)

    def minus(self, other: Amount) -> Amount:
        return Amount(self.money - other.money, self.tokens - other.tokens)

    def body(self) -> dict[str, Any]:
        return {"money": money_of(self.money), "tokens": self.tokens}


#: No money and no tokens.
NOTHING: Final = Amount()


@dataclass(slots=True)
class Budget:
    """A budget, and how far it is used."""

    number: int
    scope: Scope
    target: Target
    money: int | None  # the limits; None: none of that kind
    tokens: int | None
    action: Action
    state: BudgetState = BudgetState.OPEN
    reason: str | None = None  # why it is held, where it is not for being used up
    spent: Amount = NOTHING  # what attempts have said that they used
    assumed: Amount = NOTHING  # reserved for attempts that ended without saying so, and may have to be paid for
    reserved: Amount = NOTHING  # for what is in flight
    unpriced: int = 0  # attempts among those in `spent` whose cost is not known
    warned: bool = False
    day: int = 0  # of scope DAY: the day that `spent` is about, in days since the epoch
    by_setting: bool = False

    @property
    def used(self) -> Amount:
        """What counts against the limits, without what is in flight."""
        return self.spent.plus(self.assumed)

    @property
    def name(self) -> str:
        """As people and programs name it."""
        return name_of(self.scope, self.target)

    def body(self) -> dict[str, Any]:
        """As docs/protocol.md has it."""
        return {
            "of": self.name,
            "scope": self.scope.word,
            "action": self.action.word,
            "state": self.state.word,
            "reason": self.reason,
            "money": money_of(self.money),
            "tokens": self.tokens,
            "spent": self.spent.body(),
            "assumed": self.assumed.body(),
            "reserved": self.reserved.body(),
            "unpriced": self.unpriced,
            "origin": "setting" if self.by_setting else "request",
        }


def name_of(scope: Scope, target: Target) -> str:
    """`42`, `f7`, `queue:slow`, `day` or `total`."""
    if scope is Scope.TASK:
        return str(target)
    if scope is Scope.FLOW:
        return f"f{target}"
    return f"queue:{target}" if scope is Scope.QUEUE else scope.word


class Reservation(NamedTuple):
    """What is set aside for an attempt in flight, and in which budgets."""

    amount: Amount
    budgets: tuple[int, ...]
    allows: int = 0  # which calls it is like: `allows` of what its task allows


def allows(ceiling: int | None) -> int:
    """Calls that allow about as long an answer (the same power of two, in tokens) are counted together; 0: they don't say."""
    return 0 if ceiling is None else ceiling.bit_length()


#: A model, and which of its calls: those with one `allows`; 0: all of them.
Calls = tuple[str, int]


@dataclass(slots=True)
class ModelUse:
    """What calls of a model have used so far; estimates come from it."""

    calls: int = 0
    size: int = 0  # bytes of the tasks' bodies
    prompt: int = 0
    answered: int = 0  # output and thoughts

    def note(self, size: int, prompt: int, answered: int) -> None:
        self.calls += 1
        self.size += size
        self.prompt += prompt
        self.answered += answered
        if self.calls >= _FORGET:
            self.calls //= 2
            self.size //= 2
            self.prompt //= 2
            self.answered //= 2
