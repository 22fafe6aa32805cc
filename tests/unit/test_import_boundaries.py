"""Who may import whom, twice: by import-linter over the source, and by what a fresh interpreter has really loaded.

The first sees each import statement, wherever it stands. The second sees what the first can't: a heavy line in a
parent's `__init__.py`, and what the libraries bring along. The rules themselves are in `.importlinter`, and why in
docs/architecture.md.
"""

import json
import pkgutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import gemflowd.core
import gemflowd.model

ROOT = Path(gemflowd.core.__file__).parents[2]


def modules_of(package) -> list[str]:
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [package.__name__, *(module.name for module in found)]


@cache
def loaded_by(module: str) -> frozenset[str]:
    """What is in sys.modules after `import module`. An empty name: what an interpreter has from the start."""
    code = f"""
{f"import {module}" if module else ""}
import sys
names = sorted(sys.modules)
import json
print(json.dumps(names))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, f"import {module} failed:\n{done.stderr}"
    return frozenset(json.loads(done.stdout))


def brought_by(module: str) -> set[str]:
    return set(loaded_by(module) - loaded_by(""))


def under(names: set[str], *packages: str) -> list[str]:
    """Those of `names` that are one of `packages` or inside it."""
    return sorted(
        name for name in names if any(name == package or name.startswith(f"{package}.") for package in packages)
    )


def test_contracts():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr


def test_the_package_itself_is_empty():
    assert brought_by("gemflowd") == {"gemflowd"}


def test_the_daemon_loads_nothing_heavy_that_nobody_has_asked_for():
    assert under(brought_by("gemflowd.app"), "cel", "duckdb", "google", "jinja2", "mcp", "pydantic", "rich") == []


@pytest.mark.parametrize("module", modules_of(gemflowd.model))
def test_model_is_standard_library_only(module: str):
    foreign = {name for name in brought_by(module) if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign - {"gemflowd"} == set(under(foreign, "gemflowd.model"))


@pytest.mark.parametrize("module", modules_of(gemflowd.core))
def test_core_is_pure(module: str):
    brought = brought_by(module)
    assert not under(brought, "apsw", "asyncio", "msgspec", "socket", "sqlite3", "subprocess", "zmq")
    assert set(under(brought, "gemflowd")) == {"gemflowd", *under(brought, "gemflowd.core", "gemflowd.model")}


@pytest.mark.parametrize(
    ("module", "never"),
    [
        # The command line starts in a moment: what is slow to load is loaded where it is used.
        (
            "gemflowctl.main",
            (
                "aiohttp",
                "apsw",
                "asyncio",
                "google",
                "jinja2",
                "jsonschema_rs",
                "msgspec",
                "psutil",
                "pydantic",
                "rich",
                "yaml",
            ),
        ),
        # The daemon runs no handlers, so it loads none, nor what they need: the nursery does.
        ("gemflowd.engine", ("aiohttp", "asyncio", "gemflowd.handlers", "gemflowd.worker", "google", "zmq")),
        (
            "gemflowd.app",
            ("gemflowd.handlers.gemini", "gemflowd.standin", "gemflowd.worker.main", "google", "pydantic"),
        ),
    ],
)
def test_what_is_never_loaded(module: str, never: tuple[str, ...]):
    assert not under(brought_by(module), *never)
