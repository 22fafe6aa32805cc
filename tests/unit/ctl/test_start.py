"""How little is imported when little is asked for. In fresh interpreters: what a test imported before does not count."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import click
import pytest

from gemflowctl.main import COMMANDS, gemflowctl

HEAVY = (
    "asyncio",
    "rich",
    "yaml",
    "zmq",
    "msgspec",
    "msgpack",
    "apsw",
    "google.genai",
    "pydantic",
    "aiohttp",
    "logging",
    "tomllib",
)


def imported(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_the_package_imports_nothing() -> None:
    assert not imported("import gemflowctl") & {"gemflowctl.client", "gemflowctl.errors", *HEAVY}
    assert "gemflowctl.client" in imported("from gemflowctl import Client")


def test_version_is_quick() -> None:
    modules = imported("from gemflowctl.main import run\nassert run(['version']) == 0")
    assert not modules & set(HEAVY)


@pytest.mark.parametrize("arguments", [["ping"], ["status"], ["submit", "echo"], ["wait", "1"], ["results", "1"]])
def test_the_usual_commands_don_t_draw_and_don_t_wait_for_asyncio(arguments: list[str]) -> None:
    modules = imported(
        f"from gemflowctl.main import run\nassert run(['--endpoint', 'ipc:///nowhere/x.sock', *{arguments!r}]) == 3"
    )
    assert not modules & {"asyncio", "rich", "yaml", "msgspec", "apsw", "google.genai", "pydantic", "aiohttp"}


def test_every_command_has_help_with_examples_and_json() -> None:
    context = click.Context(gemflowctl, info_name="gemflowctl")
    for name, module in COMMANDS.items():
        command = gemflowctl.get_command(context, name)
        assert command is import_module(module).command
        assert command is not None
        assert command.name == name
        text = command.get_help(click.Context(command, info_name=name, parent=context))
        assert "Examples:\n  " in text, name
        assert "--json" in text, name
