"""The fixtures of these tests. A module that needs a daemon with other settings, or one for all of it, has a `daemon` of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.daemon import Daemon, daemon
from helpers.raw import Raw

__all__ = ["client", "daemon"]


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Raw]:
    with Raw(daemon.endpoint) as client:
        yield client
