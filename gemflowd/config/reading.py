"""Reads the layers of settings: files, environment, command line. Every problem is collected, with its place and the remedy.

Does not cover: what was changed at run time (`live.py`), which the store keeps.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from gemflowd.config.settings import BY_KEY, SETTINGS, Between, Layer, Setting, Settings, convert, word_of
from gemflowd.model.errors import ConfigError


class Guide(NamedTuple):
    """A variable of the guide: the key that it sets, its own unit, and how many of that are one of the key's."""

    key: str
    unit: str = ""
    scale: float = 1.0


#: The guide's variables with their units.
PARALLEL: Final = {
    "PARALLEL_EXECUTION_ENABLED": Guide("enabled"),
    "PARALLEL_MAX_WORKERS": Guide("workers"),
    "PARALLEL_TASK_TIMEOUT": Guide("task_timeout", "ms", 1000.0),
    "PARALLEL_RETRY_ATTEMPTS": Guide("retries"),
    "PARALLEL_MONITORING": Guide("monitoring"),
    "PARALLEL_BATCH_SIZE": Guide("batch_size"),
    "PARALLEL_MEMORY_LIMIT": Guide("memory_mb", "MB"),
}


def load(
    files: list[Path],
    environ: Mapping[str, str] = os.environ,
    command_line: Mapping[str, Any] | None = None,
    *,
    named: Path | None = None,
) -> Settings:
    """Read all layers but the run-time one.

    Args:
        files: the usual places, weakest first; one that does not exist has nothing to say.
        named: a file given by name, over those; it must exist.

    Raises:
        ConfigError: with every problem, each naming its place and key.
    """
    problems: list[str] = []
    layers = [layer for path in files if path.exists() and (layer := _file(path, problems)) is not None]
    if named is not None:
        layer = _file(named, problems)
        layers += [layer] if layer is not None else []
    layers += [_guide(environ, problems), _environment(environ, problems)]
    given = {key: value for key, value in (command_line or {}).items() if value is not None}
    layers.append(_checked(given, lambda key: "command line", problems))
    if problems:
        raise ConfigError(problems)
    return Settings(layers, {})


def _file(path: Path, problems: list[str]) -> Layer | None:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{path}: {error}")
        return None
    return _checked(values, lambda key: str(path), problems)


def _guide(environ: Mapping[str, str], problems: list[str]) -> Layer:
    """Each variable in its own unit, which is the one that its problem is told in."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, guide in PARALLEL.items():
        text = environ.get(name, "").strip()
        if text:
            setting = BY_KEY[guide.key]
            try:
                values[guide.key] = convert(setting, float(text) / guide.scale if guide.scale != 1.0 else text)
                origins[guide.key] = name
            except ValueError:
                problems.append(f"{name} must be {_wanted(setting, guide)}, not {text!r}; set it so, or unset it")
    return Layer(values, origins)


def _wanted(setting: Setting, guide: Guide) -> str:
    spans = f" from {setting.check.text(' to ', guide.scale)}" if isinstance(setting.check, Between) else ""
    return f"{word_of(setting)}{spans}{f' {guide.unit}' if guide.unit else ''}"


def _environment(environ: Mapping[str, str], problems: list[str]) -> Layer:
    names = {setting.key: f"GEMFLOW_{setting.key.upper()}" for setting in SETTINGS}
    values = {key: environ[name] for key, name in names.items() if environ.get(name, "") != ""}
    return _checked(values, names.__getitem__, problems)


def _checked(values: Mapping[str, Any], origin: Callable[[str], str], problems: list[str]) -> Layer:
    good: dict[str, Any] = {}
    for key, value in values.items():
        setting = BY_KEY.get(key)
        if setting is None:
            problems.append(f"{origin(key)}: there is no setting {key!r}; `gemflowd check-config` lists them")
            continue
        try:
            good[key] = convert(setting, value)
        except ValueError as error:
            problems.append(f"{origin(key)}: {key} {error}")
    return Layer(good, {key: origin(key) for key in good})
