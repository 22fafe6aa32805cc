"""What is taken out of an MCP server's words: all that its settings say, of its failures; secrets alone, of its answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemflowd.handlers.mcp.settings import Server

SECRET = "hunter2-and-more"


@pytest.fixture
def program(tmp_path: Path) -> Server:
    (tmp_path / "variables").write_text(f"KEY={SECRET}\n")
    command = ("/srv/hidden/serve", "/srv/documents")
    return Server("files", command, env={"LEVEL": "warning"}, env_file=str(tmp_path / "variables"))


@pytest.fixture
def web(tmp_path: Path) -> Server:
    (tmp_path / "headers").write_text(f"Authorization: Bearer {SECRET}\n")
    url = "https://user:password9@example.org/of/a-long-part-of-the-path/mcp?token=of-the-query&x=1"
    return Server("web", url=url, headers_file=str(tmp_path / "headers"))


def test_a_failure_is_told_without_the_settings(program: Server, web: Server) -> None:
    scrub = program.scrub()
    assert scrub("No such file or directory: '/srv/hidden/serve'") == "No such file or directory: '[…]'"
    assert scrub(f"{SECRET}, /srv/documents, warning") == "[…], […], […]"
    scrub = web.scrub()
    assert scrub(f"401 for url '{web.url}'") == "401 for url '[…]'"
    assert scrub("POST /of/a-long-part-of-the-path/mcp") == "POST […]"
    assert scrub("moved to /a-long-part-of-the-path/sse") == "moved to /[…]/sse"
    assert scrub(f"Bearer {SECRET}, {SECRET}, password9, of-the-query") == "[…], […], […], […]"


def test_an_answer_is_told_without_secrets_and_otherwise_whole(program: Server, web: Server) -> None:
    told = f"a warning in /srv/documents/a: {SECRET}"
    assert program.scrub_answer()(told) == "a warning in /srv/documents/a: […]"
    told = f"https://example.org/of wants Bearer {SECRET} or password9 or of-the-query"
    assert web.scrub_answer()(told) == "https://example.org/of wants […] or […] or […]"


def test_a_file_that_can_not_be_read_is_no_reason_to_say_the_rest() -> None:
    assert Server("x", ("/srv/hidden/serve",), env_file="/nonexistent").scrub()("/srv/hidden/serve!") == "[…]!"
