"""How long Hypothesis looks: some seconds in every run, long with GEMFLOW_PROPERTY_LONG=1 (then use --timeout=0)."""

import os

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
settings.load_profile("long" if os.environ.get("GEMFLOW_PROPERTY_LONG") else "ci")
