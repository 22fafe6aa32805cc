"""Colours of states, the same wherever they are shown. Pure."""

from __future__ import annotations

from typing import Any, Final

STYLES: Final = {
    "succeeded": "green",
    "running": "cyan",
    "busy": "cyan",
    "active": "cyan",
    "ready": "blue",
    "failed": "red",
    "quarantined": "red",
    "cancelled": "yellow",
    "skipped": "yellow",
    "draining": "yellow",
    "stopping": "yellow",
    "blocked": "bright_black",
    "scheduled": "bright_black",
    "held": "magenta",
}


def style_of(cell: Any) -> str:
    """The style of a cell that is the name of a state; of others none."""
    return STYLES.get(cell, "") if isinstance(cell, str) else ""
