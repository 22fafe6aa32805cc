"""An engine with one blocking slot, on which nothing is tried twice."""

from __future__ import annotations

import pytest
from helpers.rig import Rig

from gemflowd.model.rules import Rules


@pytest.fixture
def rig() -> Rig:
    rig = Rig(rules=Rules(retries=0))
    rig.slots()
    return rig
