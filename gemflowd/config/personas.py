"""Personas: named system instructions with the settings that suit them, for `agent` in a `gemini` task.

Those that come with gemflow lie beside this file, in `personas/`; a directory of one's own may add to them or replace
them by name. The daemon reads them when it starts and writes a persona into each task at submission, so a task keeps
the persona it was submitted with. Does not cover what a model's settings may be: Gemini says that.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gemflowd.model.errors import ConfigError

#: The directory of the personas that come with gemflow.
BUILT_IN: Final = Path(__file__).with_name("personas")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TEXTS: Final = ("name", "description", "system")
_KEYS: Final = frozenset({*_TEXTS, "model", "config", "tools"})


@dataclass(frozen=True, slots=True)
class Persona:
    """Who a model is asked to be."""

    name: str
    description: str  # one sentence, for lists
    system: str  # the system instruction
    model: str | None = None  # None: the task's, else the setting `default_model`
    config: dict[str, Any] = field(default_factory=dict)  # as `config` of a `gemini` task, which overrides it
    tools: tuple[str, ...] | None = None  # those that it has, and no others; None: nothing is said of them


def load_personas(directories: list[Path]) -> dict[str, Persona]:
    """The personas that come with gemflow, then `*.toml` of each directory, later ones replacing earlier by name.

    A directory that does not exist holds none.

    Raises:
        ConfigError: with every problem of every file, each beginning with the file's path.
    """
    found: dict[str, Persona] = {}
    problems: list[str] = []
    for directory in (BUILT_IN, *directories):
        found |= _load_directory(directory, problems)
    if problems:
        raise ConfigError(problems)
    return found


def apply_persona(data: Mapping[str, Any], persona: Persona) -> dict[str, Any]:
    """The data of a `gemini` task with its persona written into it.

    The task's own words win: its `config` overrides the persona's key by key, its `model` the persona's, and its
    `system` follows the persona's.
    """
    applied = dict(data)
    own = data.get("system")
    applied["system"] = f"{persona.system}\n\n{own}" if own else persona.system
    if persona.config:
        applied["config"] = {**persona.config, **(data.get("config") or {})}
    if persona.model is not None and not data.get("model"):
        applied["model"] = persona.model
    return applied


def _load_directory(directory: Path, problems: list[str]) -> dict[str, Persona]:
    found: dict[str, Persona] = {}
    origins: dict[str, Path] = {}
    try:
        files = sorted(directory.glob("*.toml"))
    except OSError as error:
        problems.append(f"{directory}: {error.strerror}")
        return found
    for path in files:
        persona = _load(path, problems)
        if persona is None:
            continue
        if persona.name in origins:
            problems.append(f"{path}: the persona {persona.name!r} is also in {origins[persona.name]}")
            continue
        origins[persona.name] = path
        found[persona.name] = persona
    return found


def _load(path: Path, problems: list[str]) -> Persona | None:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
        return None
    except UnicodeDecodeError:
        problems.append(f"{path}: not UTF-8")
        return None
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: {error}")
        return None
    wrong = _check(table)
    if wrong:
        problems.extend(f"{path}: {problem}" for problem in wrong)
        return None
    return Persona(
        name=table["name"],
        description=table["description"].strip(),
        system=table["system"].strip(),
        model=table.get("model"),
        config=table.get("config", {}),
        tools=None if table.get("tools") is None else tuple(table["tools"]),
    )


def _check(table: dict[str, Any]) -> list[str]:
    wrong = [f"unknown key {key!r}" for key in sorted(table.keys() - _KEYS)]
    for key in _TEXTS:
        value = table.get(key)
        if value is None:
            wrong.append(f"the key {key!r} is missing")
        elif not isinstance(value, str) or not value.strip():
            wrong.append(f"{key!r} must be a text that is not empty")
        elif key == "name" and not _NAME.fullmatch(value):
            wrong.append(f"the name {value!r} may have letters, digits and _.- only, at most 64")
    model = table.get("model")
    if model is not None and (not isinstance(model, str) or not model.strip()):
        wrong.append("'model' must be a text that is not empty; leave it out for the default model")
    if not isinstance(table.get("config", {}), dict):
        wrong.append("'config' must be a table")
    tools = table.get("tools")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(name, str) for name in tools)):
        wrong.append("'tools' must be a list of names of tools")
    return wrong
