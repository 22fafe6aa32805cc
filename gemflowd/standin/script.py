"""Answers that are given in advance: what the stand-in says to a question that a script knows, in place of the prompt's own sentences.

A script is a YAML file with a list, or JSON lines, of entries. The first that fits a question answers it:

    - prompt: "(?i)web scraper"      regular expressions, found anywhere; all that are given must be
      system: "You are a planner"
      model: "flash"
      times: 1                       it answers so many questions, then the next ones are looked at; left out: all
      answer: {tasks: [...]}         a text, or any value: it is then said as JSON

What no entry fits is answered as without a script. `[[stand-in:…]]` in a prompt comes first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from gemflowd.model.errors import ConfigError
from gemflowd.standin.parse import Asked

_PATTERNS: Final = ("prompt", "system", "model")
_KEYS: Final = frozenset({*_PATTERNS, "times", "answer"})


@dataclass(slots=True)
class _Entry:
    answer: str
    patterns: dict[str, re.Pattern[str]] = field(default_factory=dict)
    left: int | None = None  # questions that it still answers; None: all

    def fits(self, said: Mapping[str, str]) -> bool:
        return self.left != 0 and all(pattern.search(said[name]) for name, pattern in self.patterns.items())


class Script:
    """Entries in their order. Counts how often each has answered."""

    def __init__(self, entries: list[_Entry]) -> None:
        self._entries = entries

    def answer(self, model: str, asked: Asked) -> str | None:
        """What is said to a question; None where no entry fits."""
        said = {"prompt": asked.prompt, "system": asked.system, "model": model}
        for entry in self._entries:
            if entry.fits(said):
                if entry.left is not None:
                    entry.left -= 1
                return entry.answer
        return None


def load(path: Path) -> Script:
    """Read a script.

    Raises:
        ConfigError: with every entry that is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            found: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError([f"the script {path} can't be read: {error}"]) from None
    if not isinstance(found, list):
        raise ConfigError([f"the script {path} must be a list of entries"])
    problems: list[str] = []
    entries = [_entry(value, f"{path}, entry {place}", problems) for place, value in enumerate(found, 1)]
    if problems:
        raise ConfigError(problems)
    return Script(entries)


def _entry(value: Any, where: str, problems: list[str]) -> _Entry:
    entry = _Entry("")
    if not isinstance(value, Mapping) or "answer" not in value:
        problems.append(f"{where}: must be a map with an `answer`")
        return entry
    problems += [f"{where}: unknown key {key!r}" for key in value if key not in _KEYS]
    answer = value["answer"]
    try:
        entry.answer = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        problems.append(f"{where}: `answer` can't be said as JSON: {error}")
    for name in _PATTERNS:
        if name in value:
            try:
                entry.patterns[name] = re.compile(str(value[name]))
            except re.error as error:
                problems.append(f"{where}: {name!r} is no regular expression: {error}")
    times = value.get("times")
    if times is not None:
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            problems.append(f"{where}: 'times' must be a number of 1 or more")
        else:
            entry.left = times
    return entry
