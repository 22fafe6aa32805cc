"""The task type `tool` on files and in the shell: results, limits, and what is refused."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from gemflowd.handlers.command import command
from gemflowd.handlers.errors import HandlerError, Permanent, Transient
from gemflowd.handlers.tool.handler import tool
from gemflowd.handlers.tool.schema import SCHEMA, TOOLS
from gemflowd.handlers.workspace import walking
from gemflowd.model.values import check_value
from tests.helpers.contexts import make_context

Use = Callable[..., dict[str, Any]]


@pytest.fixture
def use(tmp_path: Path) -> Use:
    def use(name: str, /, settings: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
        context, _ = make_context(
            "tool", settings={"workspace": str(tmp_path), "tool_max_file_mb": 1, **(settings or {})}
        )
        data = {"tool": name, **arguments}
        jsonschema_rs.validator_for(SCHEMA).validate(data)
        result = tool(data, context)
        check_value(result, "result")
        return result

    return use


@pytest.fixture
def root(tmp_path: Path, use: Use) -> Path:
    use("list_files")
    return tmp_path / "flows" / "7"


def code_of(action: Callable[[], object], kind: type[HandlerError] = Permanent) -> str:
    with pytest.raises(kind) as caught:
        action()
    return caught.value.code


def test_write_read_append(use: Use) -> None:
    written = use("write_file", path="a/b.txt", content="one\n")
    assert written == {"path": "a/b.txt", "size": 4, "version": written["version"], "created": True}
    assert use("append_file", path="a/b.txt", content="zwö\n") == {"path": "a/b.txt", "size": 9, "appended": 5}
    read = use("read_file", path="a/b.txt")
    assert read == {"path": "a/b.txt", "size": 9, "version": read["version"], "text": "one\nzwö\n"}
    part = use("read_file", path="a/b.txt", offset=4, max_bytes=2)
    assert part == {"path": "a/b.txt", "size": 9, "version": None, "text": "zw", "truncated": True}
    assert (
        code_of(lambda: use("write_file", path="a/b.txt", content="x", if_version=written["version"]))
        == "version_mismatch"
    )
    assert use("write_file", path="a/b.txt", content="x", if_version=read["version"])["created"] is False


def test_contents_are_text_bytes_or_json(use: Use) -> None:
    use("write_file", path="f", content=b"\xff")
    assert use("read_file", path="f")["bytes"] == b"\xff"
    use("write_file", path="f", content={"a": [1, "ü"]})
    assert use("read_file", path="f")["text"] == '{"a": [1, "ü"]}'


def test_a_named_workspace_is_another_one(use: Use) -> None:
    use("write_file", path="f", content="shared", workspace="team")
    assert use("read_file", path="f", workspace="team")["text"] == "shared"
    assert code_of(lambda: use("read_file", path="f")) == "not_found"


def test_list(use: Use, root: Path) -> None:
    for path in ("b.txt", "a/c.csv", "a/d/e.csv"):
        use("write_file", path=path, content="12")
    (root / "link").symlink_to("/etc")
    (root / "odd\udcff").write_text("")
    listed = use("list_files")["files"]
    assert [(entry["path"], entry["type"]) for entry in listed] == [
        ("a", "directory"), ("b.txt", "file"), ("link", "link"), ("odd�", "file"),
    ]  # fmt: skip
    assert [entry["path"] for entry in use("list_files", path="a/", recursive=True)["files"]] == [
        "a/c.csv",
        "a/d",
        "a/d/e.csv",
    ]
    found = use("list_files", recursive=True, pattern="*.csv")
    assert ([entry["path"] for entry in found["files"]], found["truncated"]) == (["a/c.csv", "a/d/e.csv"], False)
    assert [entry["path"] for entry in use("list_files", recursive=True, pattern="a/*/e*")["files"]] == ["a/d/e.csv"]
    cut = use("list_files", recursive=True, limit=2)
    assert (len(cut["files"]), cut["truncated"]) == (2, True)
    assert code_of(lambda: use("list_files", path="..")) == "outside_workspace"
    assert code_of(lambda: use("list_files", path="link")) == "outside_workspace"
    assert code_of(lambda: use("list_files", path="b.txt")) == "not_a_directory"


def test_what_is_too_much_to_look_at_is_said(use: Use, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "MOST_LOOKED_AT", 3)
    for number in range(5):
        use("write_file", path=f"{number}", content="x")
    assert use("list_files")["truncated"]
    assert use("search_files", query="x")["truncated"]
    deep = root / "/".join("d" * 70)
    deep.mkdir(parents=True)
    monkeypatch.setattr(walking, "MOST_LOOKED_AT", 1000)
    assert use("list_files", recursive=True)["truncated"]


def test_a_search_takes_no_more_memory_for_short_lines(use: Use, root: Path) -> None:
    (root / "short").write_text("ab\n" * 300_000)
    tracemalloc.start()
    try:
        assert use("search_files", query="none of them")["matches"] == []
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_search(use: Use, root: Path) -> None:
    use("write_file", path="a/x.py", content="import os\nvalue = 1  # TODO later\r\n")
    use("write_file", path="b.txt", content=f"todo: {'y' * 2000}\n")
    use("write_file", path="binary", content=b"\0TODO")
    (root / "large").write_text("TODO" * 1024 * 1024)
    (root / "link").symlink_to("b.txt")
    assert use("search_files", query="TODO") == {
        "matches": [{"path": "a/x.py", "line": 2, "text": "value = 1  # TODO later"}],
        "searched": 2,
        "skipped": 2,
        "truncated": False,
    }
    found = use("search_files", query="todo", ignore_case=True)["matches"]
    assert [(match["path"], match["line"]) for match in found] == [("a/x.py", 2), ("b.txt", 1)]
    assert len(found[1]["text"]) < 600
    found = use("search_files", query=r"^(import|todo)\b|value", regex=True)["matches"]
    assert [(match["path"], match["line"]) for match in found] == [("a/x.py", 1), ("a/x.py", 2), ("b.txt", 1)]
    assert use("search_files", query="TODO", regex=True, ignore_case=True, pattern="*.txt")["searched"] == 1
    assert use("search_files", query="o", limit=1)["truncated"]
    assert code_of(lambda: use("search_files", query="(", regex=True)) == "bad_pattern"
    assert code_of(lambda: use("search_files", query=r"(a)\1", regex=True)) == "bad_pattern"


def test_no_expression_takes_for_ever(use: Use) -> None:
    use("write_file", path="f", content="a" * 100_000)
    started = time.monotonic()
    assert use("search_files", query="(a|a)*(a*)*b", regex=True)["matches"] == []
    assert use("list_files", pattern="*a" * 30 + "*b")["files"] == []
    assert time.monotonic() - started < 30


# --- shell, and where commands run ---


def test_shell_is_off_unless_it_is_allowed(use: Use) -> None:
    assert code_of(lambda: use("shell", command="true")) == "not_allowed"
    assert code_of(lambda: use("shell", {"tool_shell": "true"}, command="true")) == "not_allowed"


def test_shell(use: Use, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "a-secret")
    monkeypatch.setenv("DATABASE_PASSWORD", "another")
    on = {"tool_shell": True}
    use("write_file", path="f", content="words")
    assert use("shell", on, command="cat f | tr a-z A-Z; pwd")["stdout"] == f"WORDS{root}\n"
    said = use("shell", on, command="env; cat", stdin="in", env={"EXTRA": "x"})["stdout"]
    assert f"HOME={root}\n" in said
    assert "EXTRA=x\n" in said
    assert "GEMFLOW_TASK=42\n" in said
    assert said.endswith("in")
    assert "secret" not in said
    assert "another" not in said
    assert code_of(lambda: use("shell", on, command="exit 65")) == "data_error"
    assert code_of(lambda: use("shell", on, command="exit 1"), Transient) == "exit_code"


def test_commands_run_in_the_workspace(use: Use, root: Path, tmp_path: Path) -> None:
    def run(*args: str, **data: Any) -> Any:
        context, _ = make_context(settings={"workspace": str(tmp_path)})
        return command({"args": list(args), **data}, context)["stdout"]

    use("write_file", path="sub/run.sh", content="#!/bin/sh\npwd\n")
    (root / "sub" / "run.sh").chmod(0o755)
    (root / "out").symlink_to("/tmp")
    assert run("pwd") == f"{root}\n"
    assert run("./run.sh", cwd="sub") == f"{root}/sub\n"
    assert run("pwd", cwd="/") == "/\n"
    assert run("pwd", workspace="team") == f"{tmp_path}/shared/team\n"
    for cwd, code in [
        ("..", "outside_workspace"),
        ("out", "outside_workspace"),
        ("none", "not_found"),
        ("sub/run.sh", "not_a_directory"),
    ]:
        assert code_of(lambda cwd=cwd: run("pwd", cwd=cwd)) == code  # type: ignore[misc]
    assert run("ls", "/proc/self/fd").split() == ["0", "1", "2", "3"]  # none of ours


# --- what is refused when a task is submitted ---


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({}, []),
        ({"tool": "format_disk"}, ["tool"]),
        ({"tool": 1}, ["tool"]),
        ({"tool": "read_file"}, []),
        ({"tool": "read_file", "path": ""}, ["path"]),
        ({"tool": "read_file", "path": 1}, ["path"]),
        ({"tool": "read_file", "path": "a", "content": "x"}, []),
        ({"tool": "read_file", "path": "a", "offset": -1}, ["offset"]),
        ({"tool": "write_file", "path": "a"}, []),
        ({"tool": "list_files", "limit": 0}, ["limit"]),
        ({"tool": "list_files", "workspace": "../x"}, ["workspace"]),
        ({"tool": "fetch_url", "url": "http://x", "method": "DELETE"}, ["method"]),
        ({"tool": "fetch_url", "url": "http://x", "headers": {"A": 1}}, ["headers", "A"]),
        ({"tool": "shell"}, []),
    ],
)
def test_schema(data: dict[str, Any], place: list[str]) -> None:
    errors = list(jsonschema_rs.validator_for(SCHEMA).iter_errors(data))
    assert [list(error.instance_path) for error in errors] == [place]


def test_every_tool_is_named() -> None:
    assert sorted(TOOLS) == sorted(
        ["read_file", "write_file", "append_file", "list_files", "search_files", "fetch_url", "shell"]
    )
