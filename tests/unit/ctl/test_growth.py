"""Adding to a flow: what a task's environment says, and what goes together."""

from __future__ import annotations

import pytest

from gemflowctl.errors import InvalidInput
from gemflowctl.growth import of_environment
from gemflowctl.submission import about_flow

ENVIRONMENT = {"GEMFLOW_TASK": "42", "GEMFLOW_TOKEN": "7"}


def test_the_environment_fills_in_what_is_missing() -> None:
    assert of_environment({}, ENVIRONMENT) == {"task": 42, "token": 7}
    assert of_environment({"step": "a"}, ENVIRONMENT) == {"task": 42, "token": 7, "step": "a"}
    assert of_environment({"task": 5, "token": 8, "step": None}, {}) == {"task": 5, "token": 8}


def test_outside_of_a_task_it_is_refused() -> None:
    with pytest.raises(InvalidInput, match="GEMFLOW_TASK is not set"):
        of_environment({}, {})
    with pytest.raises(InvalidInput, match="GEMFLOW_TOKEN is not set"):
        of_environment({}, {"GEMFLOW_TASK": "1", "GEMFLOW_TOKEN": ""})
    with pytest.raises(InvalidInput, match="is no number"):
        of_environment({}, {**ENVIRONMENT, "GEMFLOW_TASK": "x"})
    with pytest.raises(InvalidInput, match="`flow` is not a field"):
        of_environment({"flow": 7}, ENVIRONMENT)


def test_what_does_not_go_together() -> None:
    grow = {"task": 1, "token": 8}
    for more in ({"stream": True}, {"name": "n"}):
        with pytest.raises(InvalidInput):
            about_flow(grow=grow, **more)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="critical-path"):
        about_flow(order="critical-path", stream=True)
    assert about_flow(name="n", weight=2.0, order="fair", stream=True) == {
        "name": "n",
        "weight": 2.0,
        "order": "fair",
        "stream": True,
    }
    assert about_flow() == {}
