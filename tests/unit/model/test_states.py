"""The tables of states: transitions, and what a dependency that ended means. Written down a second time, as in docs/semantics.md."""

import pytest

from gemflowd.model.states import STATE_WORDS, STATES_BY_WORD, TERMINAL, TRANSITIONS, FlowState, On, State, satisfies

STEPS = {
    None: "blocked scheduled ready held",
    "blocked": "ready scheduled held skipped cancelled",
    "scheduled": "ready held skipped cancelled",
    "ready": "running scheduled held skipped cancelled",
    "held": "ready blocked scheduled skipped cancelled",
    "running": "succeeded failed cancelled quarantined ready scheduled blocked held",
    "succeeded": "ready blocked",
    "failed": "ready blocked",
    "cancelled": "ready blocked",
    "skipped": "ready blocked",
    "quarantined": "ready blocked",
}

#: (ended) -> (success, failure, done)
SETTLES = {
    "succeeded": (True, False, True),
    "failed": (False, True, True),
    "quarantined": (False, True, True),
    "cancelled": (False, False, True),
    "skipped": (False, False, True),
}


@pytest.mark.parametrize("before", STEPS, ids=str)
def test_the_steps(before: str | None):
    after = TRANSITIONS[None if before is None else STATES_BY_WORD[before]]
    assert {state.word for state in after} == set(STEPS[before].split())


def test_no_state_is_left_out():
    assert set(TRANSITIONS) == {None, *State}
    assert {state.word for state in TERMINAL} == set(SETTLES)
    assert all(state.terminal == (state in TERMINAL) for state in State)


@pytest.mark.parametrize("ended", SETTLES)
def test_what_a_dependency_that_ended_means(ended: str):
    state = STATES_BY_WORD[ended]
    assert tuple(satisfies(state, on) for on in (On.SUCCESS, On.FAILURE, On.DONE)) == SETTLES[ended]


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
def test_what_has_not_ended_settles_nothing(state: State):
    with pytest.raises(AssertionError):
        satisfies(state, On.DONE)


def test_numbers_are_stored_and_never_change():
    assert [state.word for state in State] == [
        "scheduled", "blocked", "ready", "held", "running", "succeeded", "failed", "cancelled", "skipped", "quarantined",
    ]  # fmt: skip
    assert [int(state) for state in State] == list(range(1, 11))
    assert [(flow.value, flow.word) for flow in FlowState] == [
        (1, "open"), (2, "active"), (3, "succeeded"), (4, "failed"), (5, "cancelled"),
    ]  # fmt: skip
    assert [(on.value, on.word) for on in On] == [(1, "success"), (2, "failure"), (3, "done")]
    assert [flow.terminal for flow in FlowState] == [False, False, True, True, True]
    assert STATES_BY_WORD[STATE_WORDS[State.READY]] is State.READY
