"""`--cache`, wherever model calls are submitted."""

from __future__ import annotations

from typing import Any, Final

import click

#: As `gemflowd.model.cache.WORDS`; a test holds the two together, this one costs nothing to import.
WORDS: Final = ("auto", "on", "read", "write", "refresh", "off")

cache_option = click.option(
    "--cache",
    type=click.Choice(WORDS),
    help="Whether an answer to the same request will do (read), and is kept for others (write): on is both, refresh asks anew and"
    " replaces. Else the daemon's setting `cache`: auto, which is on at temperature 0 and otherwise off.",
)


def say_cache(task: dict[str, Any], word: str) -> None:
    """Write it into a task that calls a model and does not say itself; others stay as they are."""
    if "task" in task and task.get("type") in (None, "gemini"):  # the short form has no room for it
        data = {"prompt": task.pop("task")}
        if "agent" in task:
            data["agent"] = task.pop("agent")
        task.update(type="gemini", data=data)
    if task.get("type") == "gemini" and isinstance(data := task.setdefault("data", {}), dict):
        data.setdefault("cache", word)
