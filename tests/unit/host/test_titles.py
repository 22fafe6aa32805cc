"""A title is a convenience: it may be missing. That it shows is in tests/integration/host."""

import sys

import pytest

from gemflowd.host import titles


def test_without_setproctitle_nothing_happens(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "setproctitle", None)
    titles.set_title("gemflowd")
