"""The fixtures of these tests."""

from __future__ import annotations

from helpers.daemon import daemon

__all__ = ["daemon"]
