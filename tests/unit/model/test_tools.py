"""Names of tools: which there are, and which of them a list permits."""

from __future__ import annotations

import pytest

from gemflowd.handlers.memory.handler import OPERATIONS
from gemflowd.handlers.tool.schema import TOOLS
from gemflowd.model.tools import FILES_AND_PAGES, MEMORY, permitted, problem


def test_the_names_are_those_of_the_task_types() -> None:
    assert set(FILES_AND_PAGES) == set(TOOLS)
    assert {name.removeprefix("memory.") for name in MEMORY} == set(OPERATIONS)


@pytest.mark.parametrize("name", ["read_file", "memory.get", "memory.set@team", "mcp:a/tool", "mcp:a/*", "mcp:a/x/y.z"])
def test_what_is_one(name: str) -> None:
    assert problem(name, ["a"]) is None


@pytest.mark.parametrize(
    "name",
    ["", "fly", "memory.eat", "memory.get@", "memory.get@a b", "mcp:a", "mcp:a/", "mcp:a/*x", "mcp:b/x", "read_file@x"],
)
def test_what_is_none(name: str) -> None:
    assert problem(name, ["a"]) is not None


@pytest.mark.parametrize(
    ("wanted", "allowed", "found"),
    [
        (["read_file", "shell"], ["read_file"], ["read_file"]),
        (["memory.get@team"], ["memory.get"], []),
        (["mcp:a/x", "mcp:b/x"], ["mcp:a/*"], ["mcp:a/x"]),
        (["mcp:a/*"], ["mcp:a/x", "mcp:a/y", "mcp:b/z"], ["mcp:a/x", "mcp:a/y"]),
        (["mcp:a/*"], ["mcp:a/*"], ["mcp:a/*"]),
        (["mcp:a/*"], ["mcp:b/*"], []),
        (["read_file", "read_file"], ["read_file"], ["read_file"]),
    ],
)
def test_what_a_list_permits(wanted: list[str], allowed: list[str], found: list[str]) -> None:
    assert permitted(wanted, allowed) == found
