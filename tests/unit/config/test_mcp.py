"""MCP servers in the settings: what is accepted, and that nothing of a table is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gemflowd.config.reading import load
from gemflowd.model.errors import ConfigError

SECRET = "hunter2-and-more"


def read(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "gemflowd.toml"
    file.write_text(text)
    return load([file], {})


def test_a_server_of_each_kind(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        f"""
        [mcp.servers.files]
        command = ["serve", "{SECRET}"]
        env = {{ KEY = "{SECRET}" }}
        [mcp.servers.web]
        url = "https://{SECRET}@example.org/mcp"
        timeout = 5
        """,
    )
    assert settings.for_handlers()["mcp"]["servers"]["files"]["env"] == {"KEY": SECRET}
    (row,) = [row for row in settings.table() if row["key"] == "mcp"]
    assert row["value"] == {"files": "stdio", "web": "http"}
    assert SECRET not in str(settings.table())


@pytest.mark.parametrize(
    "wrong",
    [
        'mcp = "x"',
        '[mcp]\nserver = "hunter2-and-more"',
        "[mcp.servers.a]",
        '[mcp.servers.a]\ncommand = "hunter2-and-more"',
        '[mcp.servers.a]\ncommand = ["x"]\nurl = "http://hunter2-and-more"',
        '[mcp.servers.a]\nurl = "ftp://hunter2-and-more"',
        '[mcp.servers.a]\ncommand = ["x"]\nenv = { A = 1 }',
        '[mcp.servers.a]\ncommand = ["x"]\nheaders_file = "/etc/passwd"',
        '[mcp.servers.a]\nurl = "http://x"\nheaders_file = "/hunter2-and-more"',
        '[mcp.servers.a]\ncommand = ["x"]\ntimeout = 0',
        '[mcp.servers."a b"]\ncommand = ["hunter2-and-more"]',
        '[mcp.servers.a]\ncommand = ["x"]\nsecret = "hunter2-and-more"',
    ],
)
def test_what_is_wrong_is_said_without_what_is_there(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, wrong)
    (problem,) = error.value.problems
    assert ": mcp " in problem
    assert SECRET not in problem


def test_a_variable_can_t_hold_it() -> None:
    with pytest.raises(ConfigError, match="must be a table"):
        load([], {"GEMFLOW_MCP": SECRET})
