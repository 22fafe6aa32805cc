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


@pytest.mark.parametrize(
    "arguments", [["ping"], ["status"], ["submit", "echo"], ["wait", "1"], ["results", "1"], ["memory", "get", "k"]]
)
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
        helpful(command, click.Context(command, info_name=name, parent=context))


def helpful(command: click.Command, context: click.Context) -> None:
    text = command.get_help(context)
    assert "Examples:\n  g" in text, context.command_path
    assert "--json" in text, context.command_path
    if isinstance(command, click.Group):
        assert command.list_commands(context)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            assert inner.name == name
            helpful(inner, click.Context(inner, info_name=name, parent=context))


def test_commands_of_groups_are_imported_when_they_are_called() -> None:
    modules = imported("from gemflowctl.main import run\nassert run(['memory', '--help']) == 0")
    assert "gemflowctl.commands.memory" in modules
    assert not modules & {"gemflowctl.commands.schedule", "gemflowctl.client", "zmq"}


def test_completion_knows_groups_and_their_commands() -> None:
    def completed(*words: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-m", "gemflowctl"],
            capture_output=True,
            text=True,
            check=True,
            env={
                "_GEMFLOWCTL_COMPLETE": "bash_complete",
                "COMP_WORDS": " ".join(["gemflowctl", *words]),
                "COMP_CWORD": str(len(words)),
            },
        )
        return {line.partition(",")[2] for line in done.stdout.splitlines()}

    assert {"schedule", "shutdown", "show", "status", "stats", "submit"} == completed("s")
    assert {"add", "list", "show", "pause", "resume", "remove"} == completed("schedule", "")
    assert {"--misfire", "--misfire-limit"} == completed("schedule", "add", "--mis")
    assert {"skip", "once", "all"} == completed("schedule", "add", "--misfire", "")
