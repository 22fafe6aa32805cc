"""The states of tasks and flows and the one table of transitions. Nothing else in the program changes a state.

Covers: which states exist, which step may follow which, what a settled dependency means for its dependents.
Does not cover: when a step is taken (`core.machine`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class State(IntEnum):
    """A task's state. The numbers are stored: never renumber, only add."""

    SCHEDULED = 1  # not yet due, also between attempts
    BLOCKED = 2  # waits for dependencies
    READY = 3
    HELD = 4  # waits for a person, or for a type that is not registered
    RUNNING = 5
    SUCCEEDED = 6
    FAILED = 7
    CANCELLED = 8
    SKIPPED = 9
    QUARANTINED = 10

    word: str  # the name on the wire
    terminal: bool

    def __init__(self, number: int) -> None:
        self.word = self.name.lower()
        self.terminal = number >= 6


class FlowState(IntEnum):
    """A flow's state. The numbers are stored: never renumber, only add."""

    OPEN = 1  # still being received
    ACTIVE = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def word(self) -> str:
        return self.name.lower()

    @property
    def terminal(self) -> bool:
        return self >= FlowState.SUCCEEDED


class On(IntEnum):
    """What a dependent asks of its dependency. The numbers are stored."""

    SUCCESS = 1
    FAILURE = 2
    DONE = 3

    @property
    def word(self) -> str:
        return self.name.lower()


STATE_WORDS: Final[dict[State, str]] = {state: state.name.lower() for state in State}
STATES_BY_WORD: Final[dict[str, State]] = {word: state for state, word in STATE_WORDS.items()}
TERMINAL: Final = frozenset(state for state in State if state >= State.SUCCEEDED)

_S = State
TRANSITIONS: Final[dict[State | None, frozenset[State]]] = {
    None: frozenset({_S.BLOCKED, _S.SCHEDULED, _S.READY, _S.HELD}),
    _S.BLOCKED: frozenset({_S.READY, _S.SCHEDULED, _S.HELD, _S.SKIPPED, _S.CANCELLED}),
    _S.SCHEDULED: frozenset({_S.READY, _S.HELD, _S.SKIPPED, _S.CANCELLED}),
    _S.READY: frozenset({_S.RUNNING, _S.SCHEDULED, _S.HELD, _S.SKIPPED, _S.CANCELLED}),
    _S.HELD: frozenset({_S.READY, _S.BLOCKED, _S.SCHEDULED, _S.SKIPPED, _S.CANCELLED}),
    _S.RUNNING: frozenset(
        {_S.SUCCEEDED, _S.FAILED, _S.CANCELLED, _S.QUARANTINED, _S.READY, _S.SCHEDULED, _S.BLOCKED, _S.HELD}
    ),
    # A terminal state changes only by an explicit `retry` of a person.
    **{state: frozenset({_S.READY, _S.BLOCKED}) for state in TERMINAL},
}

#: What a dependency that ended in this state means to a dependent: True satisfied, False impossible.
_SETTLES: Final[dict[On, frozenset[State]]] = {
    On.SUCCESS: frozenset({_S.SUCCEEDED}),
    On.FAILURE: frozenset({_S.FAILED, _S.QUARANTINED}),
    On.DONE: TERMINAL,
}


def satisfies(ended: State, on: On) -> bool:
    """Whether a dependency that ended in `ended` satisfies `on`; if not, it never will."""
    assert ended in TERMINAL
    return ended in _SETTLES[on]
