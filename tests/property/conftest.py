"""How long Hypothesis looks: some seconds in every run, long with GEMFLOW_PROPERTY_LONG=1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "ci",
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)
settings.register_profile("long", settings.get_profile("ci"), max_examples=4_000, stateful_step_count=60)
LONG = bool(os.environ.get("GEMFLOW_PROPERTY_LONG"))
settings.load_profile("long" if LONG else "ci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long on a busy machine is no failure here: the number of histories is the bound.

    The alarm of the usual limit would end a history in the middle, and Hypothesis would say that its strategies are flaky.
    """
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(0 if LONG else 1_200))
